/** Whose publications a sink on a server takes: those of one output, the first that came. */
import { MillpondError } from "../errors.js";

/**
 * `kept`: the output of the rows that `place` has; null when it has none.
 *
 * @throws MillpondError OUTPUT when they are of another one, whose sequences pass for this one's
 * @example checkOutput('schema "clicks"', row.output, output);
 */
export function checkOutput(place: string, kept: string | null, output: string | null): void {
  if (kept === null || output === null || kept === output) return;
  throw new MillpondError(
    "OUTPUT",
    `${place} holds the results of another output of this pipeline: rows would be lost, or come ` +
      "twice. Give this output a place of its own there, or go on with the output that wrote them",
  );
}
