/** The audit's SQL as a script that any DuckDB runs, without this program. */
import type { PipelineDefinition } from "../define/definition.js";
import { auditedLayouts } from "./audit.js";
import { type BatchSource, batchSteps } from "./batch-sql.js";

/** `table`: only what this one needs. */
export function sqlText(
  definition: PipelineDefinition,
  source: BatchSource,
  table?: string,
): string {
  auditedLayouts({ definition, ...(table !== undefined && { table }) });
  const tables = definition.tables.filter(({ name }) => table === undefined || name === table);
  const steps = batchSteps(definition, source, tables).map((step) =>
    step.kind === "sql"
      ? `${step.sql};`
      : `-- Map "${step.name}" of table "${step.table}" is a function, which no SQL can say: the ` +
        `audit runs it over\n-- each row of this query, and puts what it returns into ` +
        `${step.into}.\n-- ${step.from.replaceAll("\n", "\n-- ")}`,
  );
  return [
    `-- The tables of pipeline "${definition.name}", recomputed from its raw records.`,
    "SET TimeZone = 'UTC';",
    ...steps,
    "",
  ].join("\n\n");
}
