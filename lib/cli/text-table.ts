/** Aligned columns of text for a terminal: measures, cuts and pads cells. */

export interface TextColumn {
  readonly name: string;
  /** Right-aligned. */
  readonly isNumber: boolean;
}

/** Longer cells are cut to no less, where that helps: an instant is still whole. */
const CELL_WIDTH_MIN = 24;
const GAP = 2;

/**
 * A table of cells, null shown as a dim NULL, no line wider than `width`. Columns that do not fit
 * beside the others follow below, again after the first one.
 */
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
  const names = columns.map(({ name }) => oneLine(name));
  const bands = bandsOf(widths, view.width).map((shown) => {
    const line = (cells: readonly string[], style: (text: string, index: number) => string) =>
      shown
        .map((index) => style(pad(cells[index]!, widths[index]!, columns[index]!.isNumber), index))
        .join(" ".repeat(GAP))
        .trimEnd();
    const rule = widths.map((width) => "─".repeat(width));
    const lines = [
      line(names, (text) => paint(1, text)),
      line(rule, (text) => paint(2, text)),
      ...texts.map((row, at) =>
        line(row, (text, index) => (rows[at]![index] === null ? paint(2, text) : text)),
      ),
    ];
    return `${lines.join("\n")}\n`;
  });
  return bands.join("\n");
}

const total = (widths: readonly number[]): number =>
  widths.reduce((sum, width) => sum + width, 0) + GAP * (widths.length - 1);

/** The widest columns give way, as far as they stay legible. */
function fitWidths(wanted: readonly number[], width: number): number[] {
  const widths = wanted.map((one) => Math.min(one, width));
  for (;;) {
    const tooMuch = total(widths) - width;
    const widest = Math.max(...widths);
    if (tooMuch <= 0 || widest <= CELL_WIDTH_MIN) return widths;
    const step = Math.min(tooMuch, Math.ceil((widest - CELL_WIDTH_MIN) / 4));
    widths[widths.indexOf(widest)] = widest - step;
  }
}

/** Which columns stand beside each other; the first one of all leads every band it leaves room. */
function bandsOf(widths: readonly number[], width: number): number[][] {
  const bands: number[][] = [[]];
  for (const index of widths.keys()) {
    const band = bands.at(-1)!;
    const fits = total([...band, index].map((column) => widths[column]!)) <= width;
    if (fits || band.length === 0) band.push(index);
    else {
      const withFirst = total([widths[0]!, widths[index]!]) <= width;
      bands.push(withFirst ? [0, index] : [index]);
    }
  }
  return bands;
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
