/** Aligned columns of text for a terminal: measures, cuts and pads cells. */

export interface TextColumn {
  readonly name: string;
  /** Right-aligned. */
  readonly isNumber: boolean;
}

const COLUMN_WIDTH_MIN = 6;
const GAP = 2;

/** A table of cells, null shown as a dim NULL, no line wider than `width`. */
export function textTable(
  columns: readonly TextColumn[],
  rows: readonly (readonly (string | null)[])[],
  view: { readonly width: number; readonly color: boolean },
): string {
  const paint = (code: number, text: string) => (view.color ? `\x1b[${code}m${text}\x1b[0m` : text);
  const texts = rows.map((row) => row.map((cell) => (cell === null ? "NULL" : oneLine(cell))));
  const wanted = columns.map(({ name }, index) =>
    texts.reduce((max, row) => Math.max(max, displayWidth(row[index]!)), displayWidth(name)),
  );
  const widths = fitWidths(wanted, view.width);
  const shown = columns.slice(0, widths.length);
  const line = (cells: readonly string[], style: (text: string, index: number) => string) =>
    shown
      .map((column, index) => style(pad(cells[index]!, widths[index]!, column.isNumber), index))
      .join(" ".repeat(GAP))
      .trimEnd();
  const names = columns.map(({ name }) => oneLine(name));
  const lines = [
    line(names, (text) => paint(1, text)),
    line(
      widths.map((width) => "─".repeat(width)),
      (text) => paint(2, text),
    ),
    ...texts.map((row, at) =>
      line(row, (text, index) => (rows[at]![index] === null ? paint(2, text) : text)),
    ),
  ];
  const hidden = columns.length - shown.length;
  if (hidden > 0) {
    lines.push(paint(2, `… ${hidden} more ${hidden === 1 ? "column" : "columns"} to the right`));
  }
  return `${lines.join("\n")}\n`;
}

/** Widths that fit: the widest columns give way first; columns that can't fit are left out. */
function fitWidths(wanted: readonly number[], total: number): number[] {
  const widths = [...wanted];
  const used = () => widths.reduce((sum, width) => sum + width, 0) + GAP * (widths.length - 1);
  while (used() > total) {
    const widest = widths.indexOf(Math.max(...widths));
    if (widths[widest]! <= COLUMN_WIDTH_MIN) {
      if (widths.length === 1) break;
      widths.pop();
    } else {
      widths[widest]! -= Math.min(
        used() - total,
        Math.ceil((widths[widest]! - COLUMN_WIDTH_MIN) / 4),
      );
    }
  }
  return widths;
}

function pad(text: string, width: number, isNumber: boolean): string {
  const cut = cutTo(text, width);
  const space = " ".repeat(Math.max(0, width - displayWidth(cut)));
  return isNumber ? space + cut : cut + space;
}

function cutTo(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let cut = "";
  let used = 0;
  for (const char of text) {
    used += charWidth(char.codePointAt(0)!);
    if (used > width - 1) break;
    cut += char;
  }
  return `${cut}…`;
}

/** Control characters could move the cursor or colour the screen: they are shown, not sent. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => {
    if (char === "\n") return "\\n";
    if (char === "\t") return "\\t";
    return `\\x${char.codePointAt(0)!.toString(16).padStart(2, "0")}`;
  });
}

/** Columns that a terminal gives the text: marks none, East Asian wide characters and emoji two. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const char of text) width += charWidth(char.codePointAt(0)!);
  return width;
}

function charWidth(code: number): number {
  if (code < 0x300) return 1;
  if (/[\p{Mn}\p{Me}\p{Cf}]/u.test(String.fromCodePoint(code))) return 0;
  const isWide =
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0xffe0 && code <= 0xffe6) ||
    (code >= 0x1f300 && code <= 0x1faff) ||
    (code >= 0x20000 && code <= 0x3fffd);
  return isWide ? 2 : 1;
}
