/**
 * HTML as a value: a template that escapes whatever is put into it, so that no key, payload or
 * message of anybody's data can become markup.
 */

/** Text that is markup already. Only `html` and `markup` make it. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Part = Html | string | number | null | readonly Part[];

/**
 * Markup with values in it; strings and numbers are escaped, null is nothing.
 *
 * @example html`<td title="${key}">${key}</td>`
 */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(
    strings.map((text, index) => (index === 0 ? text : textOf(parts[index - 1]!) + text)).join(""),
  );
}

/** Text that the program itself wrote as markup, such as its style sheet. */
export const markup = (text: string): Html => new Html(text);

function textOf(part: Part): string {
  if (part === null) return "";
  if (part instanceof Html) return part.text;
  if (Array.isArray(part)) return part.map(textOf).join("");
  return escaped(String(part));
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Control characters (but tab and line end) are no HTML; unpaired surrogates are no UTF-8. */
const UNSHOWN = /\p{Cs}|[^\P{Cc}\t\n]/gu;

function escaped(text: string): string {
  return text.replace(UNSHOWN, "\u{fffd}").replace(/[&<>"']/g, (char) => ENTITIES[char]!);
}
