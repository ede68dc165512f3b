/** What `millpond audit` shows, as text. */
import type { AuditedTable, AuditReport, Difference } from "../audit/audit.js";
import type { TextView } from "./inspect-report.js";
import { textTable } from "./text-table.js";

export function auditText(report: AuditReport, elapsedMs: number, view: TextView): string {
  const { pipeline, records, partitions, skipped, unread } = report;
  // What bronze lacks explains what the others are said to differ in.
  const isBronze = ({ table }: AuditedTable) => Number(table === "bronze");
  const tables = [...report.tables].sort((a, b) => isBronze(b) - isBronze(a));
  const seconds = (elapsedMs / 1000).toFixed(1);
  const head =
    `pipeline ${pipeline}: recomputed from ${number(records)} records of ${partitions} ` +
    `${partitions === 1 ? "partition" : "partitions"} in ${seconds} s\n` +
    `held against it: ${placesOf(tables).join(", ")}\n`;
  const parts = [head, verdicts(tables, view)];
  for (const { table, reason } of skipped) parts.push(`${table} was not audited: it ${reason}\n`);
  for (const { place, reason } of unread) parts.push(`${place} was not read: ${reason}\n`);
  for (const table of tables) {
    if (table.differences.length > 0) parts.push(differencesText(table, view));
  }
  const names = (some: readonly AuditedTable[]) => new Set(some.map(({ table }) => table)).size;
  const wrong = names(tables.filter((table) => !isEqual(table)));
  const left = skipped.length === 0 ? "" : ` Not audited: ${named(skipped)}.`;
  const last = report.equal
    ? `Equal: every row ${left === "" ? "" : "that was audited "}is as the raw records say.${left}`
    : `Not equal: ${wrong} of ${names(tables)} tables differ from what the raw records say.`;
  return `${parts.join("\n")}\n${paint(view, report.equal ? 32 : 31, last)}\n`;
}

const named = (some: AuditReport["skipped"]): string => some.map(({ table }) => table).join(", ");

const number = (value: number): string => value.toLocaleString("en-US");

const paint = ({ color }: TextView, code: number, text: string): string =>
  color ? `\x1b[${code}m${text}\x1b[0m` : text;

const placesOf = (tables: readonly AuditedTable[]): string[] => [
  ...new Set(tables.map(({ place }) => place)),
];

const isEqual = ({ different, extra, missing }: AuditedTable): boolean =>
  different + extra + missing === 0;

/** Copies of a table of which the same is to be said. */
function merged(tables: readonly AuditedTable[]): { in: string; table: AuditedTable }[] {
  const alike = new Map<string, AuditedTable[]>();
  for (const table of tables) {
    const { place: _, differences, ...counts } = table;
    const key = JSON.stringify([counts, differences.length === 0 ? "" : table.place]);
    alike.set(key, [...(alike.get(key) ?? []), table]);
  }
  return [...alike.values()].map((some) => ({ in: placesOf(some).join(", "), table: some[0]! }));
}

function verdicts(tables: readonly AuditedTable[], view: TextView): string {
  const anyOpen = tables.some(({ open }) => open > 0);
  const rows = merged(tables);
  const isSplit = rows.length > new Set(tables.map(({ table }) => table)).size;
  const counts = ["rows", "different", "missing", "extra", ...(anyOpen ? ["open"] : [])] as const;
  const columns = [
    { name: "table", isNumber: false },
    ...(isSplit ? [{ name: "in", isNumber: false }] : []),
    { name: "", isNumber: false },
    ...counts.map((name) => ({ name, isNumber: true })),
  ];
  const cells = rows.map(({ in: places, table }) => {
    return [
      table.table,
      ...(isSplit ? [places] : []),
      isEqual(table) ? "equal" : "differs",
      ...counts.map((name) => number(Number(Object.entries(table).find(([n]) => n === name)?.[1]))),
    ];
  });
  return textTable(columns, cells, view);
}

export function differencesText(table: AuditedTable, view: TextView): string {
  const total = table.different + table.extra + table.missing;
  const shown = table.differences.length;
  const which = shown < total ? `the first ${shown} of ${number(total)}` : `${number(total)}`;
  const noun = total === 1 ? "difference" : "differences";
  const head = `${table.table}: ${which} ${noun} in ${table.place}\n`;
  return [head, ...table.differences.map((one) => differenceText(one, view))].join("\n");
}

const KINDS = {
  different: "differs",
  missing: "is not published",
  extra: "should not be published",
} as const;

function differenceText({ kind, key, columns, explanation }: Difference, view: TextView): string {
  const row = key.map(({ column, value }) => `${column} ${value}`).join(", ");
  const cells = columns.map((cell) => [
    cell.column,
    ...(kind === "missing" ? [] : [cell.published]),
    ...(kind === "extra" ? [] : [cell.recomputed]),
  ]);
  const names = [
    "column",
    ...(kind === "missing" ? [] : ["published"]),
    ...(kind === "extra" ? [] : ["recomputed"]),
  ];
  const table = textTable(
    names.map((name) => ({ name, isNumber: false })),
    cells,
    { ...view, width: view.width - 2 },
  );
  const lines = [
    ...wrapped(`${row}: ${KINDS[kind]}`, view.width - 2).map((line) => paint(view, 33, line)),
    ...wrapped(`because of ${explanation}`, view.width - 2),
    ...(columns.length === 0 ? [] : table.trimEnd().split("\n")),
  ];
  return `${lines.join("\n  ")}\n`;
}

/** Lines of at most so many columns, broken between words. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}
