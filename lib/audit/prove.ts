/**
 * Nothing that a backfill has rebuilt is published before batch SQL agrees with it: whether a
 * definition's tables can be held against that, and doing it.
 */
import { type Pipeline, type PipelineDefinition, takesBronze } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { referenceFiles } from "../runtime/references.js";
import { type AuditReport, audit } from "./audit.js";
import type { AuditPlace } from "./published.js";

/** Throws `MillpondError("OUTPUT")`. */
export function refuseWithoutBronze({ sinks }: PipelineDefinition): void {
  if (sinks.some((sink) => sink.kind === "lake" && takesBronze(sink))) return;
  throw new MillpondError(
    "OUTPUT",
    "the new definition keeps no bronze, by which its tables could be proved, and rebuilt again: " +
      "add lake()",
  );
}

export interface Rebuilt {
  readonly pipeline: Pipeline;
  /** The pipeline's, with its tables where they were filled. */
  readonly definition: PipelineDefinition;
}

/**
 * Of the tables in `place`, which it closes.
 *
 * @throws MillpondError INVARIANT when they are not what batch SQL says, with the `consequence`
 */
export async function prove(
  place: AuditPlace,
  { pipeline, definition }: Rebuilt,
  consequence: string,
): Promise<AuditReport> {
  try {
    const { functions } = pipeline;
    const references = referenceFiles(pipeline);
    const report = await audit(place, { definition, functions, references, examples: 1 });
    if (report.equal) return report;
    const different = report.tables.find(({ differences }) => differences.length > 0);
    const table = different?.table ?? "bronze";
    const found = different?.differences[0]?.explanation ?? "records differ";
    const message = `the rebuilt table "${table}" is not what batch SQL says (${found})`;
    throw new MillpondError("INVARIANT", `${message}; ${consequence}`);
  } finally {
    await place.close();
  }
}
