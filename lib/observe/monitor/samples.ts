/** Prometheus' text format, read: as much of it as conditions need. */
import { MillpondError } from "../../errors.js";

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*$/;
const LABEL = /\s*([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"\s*,?/gy;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", "\\": "\\", '"': '"' };
const NUMBERS: Readonly<Record<string, number>> = {
  "+Inf": Infinity,
  "-Inf": -Infinity,
  NaN: Number.NaN,
};

/**
 * The samples whose name `wanted` has. Throws `MillpondError("INPUT")` for a line that is none.
 *
 * @example parseSamples('up{job="x"} 1\n', new Set(["up"])); // [{ name: "up", …, value: 1 }]
 */
export function parseSamples(text: string, wanted: ReadonlySet<string>): Sample[] {
  const found: Sample[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const [, name, labels = "", number] = LINE.exec(line) ?? [];
    if (name === undefined || number === undefined) throw notMetrics(index + 1, line);
    if (!wanted.has(name)) continue;
    const value = NUMBERS[number] ?? Number(number);
    if (Number.isNaN(value) && number !== "NaN") throw notMetrics(index + 1, line);
    // No condition holds for what is no number.
    if (!Number.isFinite(value)) continue;
    found.push({ name, labels: labelsOf(labels), value });
  }
  return found;
}

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(LABEL)) {
    labels[name!] = value!.replaceAll(/\\(.)/g, (all, char: string) => ESCAPES[char] ?? all);
  }
  return labels;
}

function notMetrics(line: number, found: string): MillpondError {
  return new MillpondError(
    "INPUT",
    `line ${line} is no metric: ${JSON.stringify(found.slice(0, 80))}. Expected Prometheus' text ` +
      "format; give the address that ends in /metrics",
  );
}
