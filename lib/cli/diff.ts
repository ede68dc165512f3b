/** `millpond diff`: what a changed definition would change in the results. */
import { Command } from "commander";
import type { DiffReport, RowDiff, TableDiff } from "../audit/diff.js";
import { loadPipeline } from "../runtime/load-pipeline.js";
import { wrapped } from "./audit-report.js";
import type { TextView } from "./inspect-report.js";
import { textTable } from "./text-table.js";

interface DiffFlags {
  readonly out: string;
  readonly json?: boolean;
}

const HELP = `
Runs the batch SQL of both definitions over the records in bronze, all windows as they stand, and
shows which rows come, go or change. Nothing is deployed, and the output is only read.

Exit codes: 0 equal, 1 not equal, others as for every command.

Examples:
  $ millpond diff shop.ts shop-new.ts --out out/shop
  $ millpond diff shop.ts shop-new.ts --out out/shop --json
`;

const EXAMPLES = 3;

export function diffCommand(): Command {
  return new Command("diff")
    .description("show what a changed definition would change in the results")
    .argument("<old>", "the definition's file as it is")
    .argument("<new>", "the changed one")
    .requiredOption("--out <dir>", "directory that a run wrote to, for its raw records")
    .option("--json", "one JSON object")
    .addHelpText("after", HELP)
    .action(run);
}

async function run(oldFile: string, newFile: string, flags: DiffFlags): Promise<void> {
  const before = await loadPipeline(oldFile, new Map());
  const after = await loadPipeline(newFile, new Map());
  const { openOutput } = await import("../audit/place.js");
  const { diff } = await import("../audit/diff.js");
  const place = await openOutput(flags.out);
  try {
    const report = await diff(place, { before, after, examples: EXAMPLES });
    const view = {
      width: process.stdout.columns ?? 100,
      color: process.stdout.isTTY && (process.env.NO_COLOR ?? "") === "",
    };
    const json = flags.json === true;
    process.stdout.write(json ? `${JSON.stringify(report)}\n` : diffText(report, view));
    if (!report.equal) process.exitCode = 1;
  } finally {
    await place.close();
  }
}

const number = (value: number | null): string | null =>
  value === null ? null : value.toLocaleString("en-US");

export function diffText({ equal, records, tables }: DiffReport, view: TextView): string {
  const head = `both definitions over ${number(records)} records in bronze\n`;
  const columns = ["table", "", "before", "after", "added", "removed", "changed"].map(
    (name, at) => ({ name, isNumber: at > 1 }),
  );
  const rows = tables.map((one) => [
    one.table,
    one.kind,
    number(one.before) ?? "–",
    number(one.after) ?? "–",
    ...[one.addedRows, one.removedRows, one.changedRows].map((n) => number(n)),
  ]);
  const details = tables
    .filter(({ schema, examples }) => schema.length + examples.length > 0)
    .map((one) => detailText(one, view));
  const last = equal ? "Equal: the change changes no result." : "";
  return [head, textTable(columns, rows, view), ...details, last === "" ? "" : `${last}\n`]
    .filter((part) => part !== "")
    .join("\n");
}

function detailText({ table, schema, examples, ...counts }: TableDiff, view: TextView): string {
  const total = counts.addedRows + counts.removedRows + counts.changedRows;
  const shown = examples.length < total ? `, ${examples.length} of ${number(total)} rows` : "";
  const lines = [`${table}${shown}`, ...schema.map((change) => `  ${change}`)];
  for (const example of examples) lines.push(...rowLines(example, view));
  return `${lines.join("\n")}\n`;
}

const SIGNS = { added: "+", removed: "-", changed: "~" } as const;

function rowLines({ kind, key, columns }: RowDiff, view: TextView): string[] {
  const row = key.map(({ column, value }) => `${column} ${value}`).join(", ");
  const cells = columns.map(({ column, before, after }) => {
    if (kind === "changed") return `${column} ${before ?? "NULL"} → ${after ?? "NULL"}`;
    return `${column} ${(kind === "added" ? after : before) ?? "NULL"}`;
  });
  const text = cells.length === 0 ? row : `${row}: ${cells.join(", ")}`;
  const [first, ...more] = wrapped(text, view.width - 6);
  return [`  ${SIGNS[kind]} ${first ?? ""}`, ...more.map((line) => `      ${line}`)];
}
