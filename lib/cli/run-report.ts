/** What a run says at its end: the accounting, and what to do next. */
import type { AccountingRow } from "../runtime/accounting.js";
import type { RunReport } from "../runtime/run-pipeline.js";
import { counted } from "./numbers.js";

const format = (count: number): string => count.toLocaleString("en-US");

export function printRunReport(report: RunReport, options: { readonly json: boolean }): void {
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ kind: "report", ...report })}\n`);
    return;
  }
  for (const warning of report.warnings) process.stderr.write(`warning: ${warning}\n`);
  process.stdout.write(accountingText(report.accounting));
  if (report.aborted) {
    process.stdout.write("\nStopped. Run the same command again to continue from here.\n");
    return;
  }
  const added = counted(report.records, "new record", format);
  process.stdout.write(`\n${added}. Results are in ${report.out}; try\n`);
  const table = report.accounting.find(({ kind }) => kind === "table")?.name ?? "accounting";
  process.stdout.write(
    `  npx millpond query --out ${report.out} "SELECT * FROM ${table} LIMIT 10"\n` +
      `  npx millpond inspect --out ${report.out}\n`,
  );
}

/** The sums of I2, a line each. */
export function accountingText(rows: readonly AccountingRow[]): string {
  const name = Math.max(...rows.map((row) => row.name.length));
  return rows
    .map((row) => `${row.kind.padEnd(6)} ${row.name.padEnd(name)}  ${sums(row)}\n`)
    .join("");
}

function sums(row: AccountingRow): string {
  const n = (value: number | null) => format(value ?? 0);
  const of = (value: number | null, what: string) => counted(value ?? 0, what, format);
  if (row.kind === "stream") {
    const split = `${of(row.events, "event")} + ${of(row.dead_letters, "dead letter")}`;
    return `${of(row.records, "record")} = ${split}`;
  }
  if (row.rows !== null) return of(row.rows, "row");
  const beyond = row.beyond_revise ? ` (${n(row.beyond_revise)} of them beyond reviseFor)` : "";
  return (
    `${of(row.events, "event")} = ${n(row.counted)} counted${beyond} + ${n(row.late)} late + ` +
    of(row.duplicates, "duplicate")
  );
}
