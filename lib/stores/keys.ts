/** Keys as file paths and back: any text, no way out of the directory, no clashes. */
import { MillpondError } from "../errors.js";

/** File names end at 255 bytes; longer segments go on in a directory below. */
const NAME_CHARS_MAX = 200;

/** Ascending as object stores list: by UTF-8 bytes. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * A relative path for a key like "flights/p-3". Everything but lower-case letters, digits, "_" and
 * "-" is escaped: dots, so that ".." is a name like any other and names with a dot are ours; upper
 * case, because some file systems do not tell it apart.
 */
export function keyToPath(key: string): string {
  checkKey(key);
  return key.split("/").map(encodeSegment).join("/");
}

/** Throws `MillpondError("USAGE")` for what some store could not keep apart from another key. */
export function checkKey(key: string): void {
  if (!key.split("/").includes("") && isWellFormed(key)) return;
  throw new MillpondError(
    "USAGE",
    `key ${JSON.stringify(key)} cannot be stored: expected non-empty segments of well-formed ` +
      'Unicode, separated by "/". Rename the topic or pipeline that it comes from',
  );
}

/** Null when no key has this path, so the file is not ours. */
export function pathToKey(path: string): string | null {
  try {
    const key = path.replaceAll("+/", "").split("/").map(decodeURIComponent).join("/");
    return keyToPath(key) === path ? key : null;
  } catch {
    return null;
  }
}

function encodeSegment(segment: string): string {
  const escaped = encodeURIComponent(segment).replaceAll(/%[0-9A-F]{2}|[^a-z0-9_-]/g, (text) =>
    text.length > 1 ? text : `%${text.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  // "+" is escaped above, so at a name's end it can only mean "continued".
  return (escaped.match(new RegExp(`.{1,${NAME_CHARS_MAX}}`, "g")) ?? []).join("+/");
}

function isWellFormed(text: string): boolean {
  return Buffer.from(text).toString() === text;
}
