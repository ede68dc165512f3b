/** Errors of a definition that cannot work, and what their messages are made of. */
import { fileURLToPath } from "node:url";
import { MillpondError } from "../errors.js";

export interface DefinitionPlace {
  readonly file?: string | undefined;
  readonly table?: string | undefined;
  readonly column?: string | undefined;
}

/** Thrown while a pipeline is defined. `detail` is the message without its place. */
export class DefinitionError extends MillpondError {
  override readonly name = "DefinitionError";
  readonly detail: string;
  readonly file: string | undefined;
  readonly table: string | undefined;
  readonly column: string | undefined;

  constructor(detail: string, place: DefinitionPlace = {}, options?: { cause?: unknown }) {
    const file = place.file === undefined ? "" : `${place.file}: `;
    const table = place.table === undefined ? "" : `table "${place.table}": `;
    super("DEFINITION", `${file}${table}${detail}`, options);
    this.detail = detail;
    this.file = place.file;
    this.table = place.table;
    this.column = place.column;
  }
}

/** Runs `work`; a definition error from inside gets the place where it lacks one. */
export function at<T>(place: DefinitionPlace, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof DefinitionError)) throw error;
    const { file, table, column } = error;
    throw new DefinitionError(
      error.detail,
      {
        file: file ?? place.file,
        table: table ?? place.table,
        column: column ?? place.column,
      },
      { cause: error.cause ?? error },
    );
  }
}

/** `file:line` of the first caller outside this folder; undefined when the stack does not tell. */
export function callerPlace(): string | undefined {
  for (const line of (new Error("place").stack ?? "").split("\n").slice(1)) {
    const match = /(?:\(|at (?:async )?)((?:file:\/\/|\/|[A-Za-z]:\\)[^()]*?):(\d+):\d+\)?$/.exec(
      line.trim(),
    );
    if (match === null) continue;
    const file = match[1].startsWith("file:") ? fileURLToPath(match[1]) : match[1];
    if (!/[\\/]lib[\\/](define[\\/][^\\/]+|index)\.[jt]s$/.test(file)) return `${file}:${match[2]}`;
  }
  return undefined;
}

/** "; did you mean …? It has: …", for a name that is not among `known`. */
export function suggestion(name: string, known: readonly string[]): string {
  const near = known
    .map((other) => ({ other, distance: editDistance(name.toLowerCase(), other.toLowerCase()) }))
    .filter(({ distance, other }) => distance <= Math.max(1, Math.floor(other.length / 3)))
    .sort((a, b) => a.distance - b.distance);
  const hint = near.length === 0 ? "" : `; did you mean "${near[0].other}"?`;
  const list = known.slice(0, 20).join(", ") + (known.length > 20 ? ", …" : "");
  return `${hint === "" ? "." : hint} It has: ${list}`;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, previous[j] + 1, row[j - 1] + 1));
    }
    previous = row;
  }
  return previous[b.length];
}
