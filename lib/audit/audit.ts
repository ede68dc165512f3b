/**
 * The audit: recomputes a pipeline's tables from bronze in batch SQL and holds the published ones
 * against them. Where the data lies is left to `place.ts`, how it is shown to the command.
 */
import type { DuckDBConnection } from "@duckdb/node-api";
import type { ColumnNode, Pipeline, PipelineDefinition, TableNode } from "../define/definition.js";
import { DEAD_LETTER_REASONS } from "../engine/slice.js";
import { MillpondError } from "../errors.js";
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import { isRevised, tableLayouts } from "../sinks/layouts.js";
import type { TableLayout } from "../sinks/sink.js";
import { runBatch } from "./batch.js";
import { accountingSql, batchSteps, eventsOf } from "./batch-sql.js";
import { agreesSql, differencesSql } from "./compare-sql.js";
import { explain, keyOf, recomputedColumns } from "./explain.js";
import { judgeOpenRows } from "./prefixes.js";
import type { AuditPlace, PublishedCopy, ReadPartition } from "./published.js";
import { rowsOf } from "./rows.js";
import { tolerancesOf } from "./tolerances.js";

export interface AuditOptions {
  readonly definition: PipelineDefinition;
  /** Absent when the pipeline's file was not given: then tables with `map` are left out. */
  readonly functions?: Pipeline["functions"] | undefined;
  /** Files of the reference tables by name. */
  readonly references: ReadonlyMap<string, string>;
  /** Only this table: of the pipeline, or `late` or `dead_letters`. */
  readonly table?: string | undefined;
  /** Only rows whose window or session starts, or whose event time is, from this on: epoch ms. */
  readonly fromMs?: number | undefined;
  /** And before this. */
  readonly toMs?: number | undefined;
  /** Differences shown a table. */
  readonly examples: number;
}

export interface AuditReport {
  readonly pipeline: string;
  readonly equal: boolean;
  /** In bronze. */
  readonly records: number;
  readonly partitions: number;
  /** Every table in each place that has it. */
  readonly tables: readonly AuditedTable[];
  /** Tables that were not held against anything, and why. */
  readonly skipped: readonly { readonly table: string; readonly reason: string }[];
  /** Places whose tables were not read, and why. */
  readonly unread: AuditPlace["unread"];
}

export interface AuditedTable {
  readonly table: string;
  /** Where these rows are, in words. */
  readonly place: string;
  /** Published ones. */
  readonly rows: number;
  /** Published rows that are not as recomputed, that should not be there, and that are lacking. */
  readonly different: number;
  readonly extra: number;
  readonly missing: number;
  /** Rows of windows still open, which are not published or not as they stand. */
  readonly open: number;
  readonly differences: readonly Difference[];
}

export interface Difference {
  readonly kind: "missing" | "extra" | "different";
  readonly key: readonly { readonly column: string; readonly value: string }[];
  /** Those that differ; all when a side is lacking. */
  readonly columns: readonly {
    readonly column: string;
    readonly published: string | null;
    readonly recomputed: string | null;
  }[];
  /** The first offset that explains it, and what is the matter with it. */
  readonly explanation: string;
}

/**
 * @throws MillpondError USAGE for a table that is not there, QUERY when the recomputation fails
 * @example
 * const place = await openOutput("out");
 * const report = await audit(place, { definition, references: new Map(), examples: 3 });
 * if (!report.equal) console.log(report.tables.flatMap(({ differences }) => differences));
 */
export async function audit(place: AuditPlace, options: AuditOptions): Promise<AuditReport> {
  const { definition } = options;
  const { connection } = place;
  const layouts = auditedLayouts(options);
  const { tables, skipped } = recomputed(options, layouts);
  const source = { bronze: place.bronze, references: options.references };
  await runBatch(
    connection,
    batchSteps(definition, source, tables),
    options.functions ?? new Map(),
  );
  const partitions = await bronzePartitions(place);
  const known = {
    passed: place.passed ?? (await passedInBronze(connection, definition)),
    accounting: accountingOf(place),
    left: skipped.map(({ table }) => table),
    hasRepeats: partitions.some(({ rows, records }) => rows !== records),
  };
  const audited: AuditedTable[] = [];
  const unpublished: { table: string; reason: string }[] = [];
  for (const layout of layouts) {
    if (known.left.includes(layout.name)) continue;
    const table = definition.tables.find(({ name }) => name === layout.name);
    const copies = place.copies.filter(({ tables }) => tables.has(layout.name));
    for (const copy of copies) {
      audited.push(await auditTable(place, options, { ...known, layout, table, copy }));
    }
    if (copies.length > 0) continue;
    unpublished.push({ table: layout.name, reason: "is in no sink that an audit can read" });
  }
  if (audited.length === 0) throw nothingAudited([...skipped, ...unpublished]);
  const isWhole = options.table === undefined && skipped.length === 0;
  if (isWhole && options.fromMs === undefined && options.toMs === undefined) {
    for (const copy of place.copies) {
      if (copy.accounting.kind === "old") {
        const reason = "is of an earlier publication: a run is at work, or was stopped on its way";
        unpublished.push({ table: "accounting", reason });
      } else if (copy.accounting.kind !== "none") {
        audited.push(await auditAccounting(connection, definition, copy));
      }
    }
  }
  const bronze = auditBronze(partitions, place.read ?? []);
  // Only then is it news: what is said of the others is said of it too.
  if (!isEqual(bronze)) audited.push(bronze);
  return {
    pipeline: definition.name,
    equal: audited.every(isEqual),
    records: bronze.rows,
    partitions: partitions.length,
    tables: audited,
    skipped: [...skipped, ...unpublished],
    unread: place.unread,
  };
}

/** Something to select the sums of all records from, where any place has them. */
function accountingOf({ copies }: AuditPlace): string | null {
  const [found] = copies.flatMap(({ accounting }) =>
    accounting.kind === "there" ? [accounting.from] : [],
  );
  return found ?? null;
}

interface BronzeCounts {
  readonly topic: string;
  readonly partition: number;
  readonly rows: number;
  /** Rows of different offsets. */
  readonly records: number;
}

async function bronzePartitions({ connection, bronze }: AuditPlace): Promise<BronzeCounts[]> {
  const found = await rowsOf(
    connection,
    `SELECT topic, "partition", count(*) AS n, count(DISTINCT "offset") AS records
    FROM ${bronze} GROUP BY ALL ORDER BY ALL`,
  );
  return found.map(({ topic, partition, n, records }) => ({
    topic: String(topic),
    partition: Number(partition),
    rows: Number(n),
    records: Number(records),
  }));
}

/** Whether each record that was read is there, and once: also those that no table has. */
function auditBronze(found: readonly BronzeCounts[], read: readonly ReadPartition[]): AuditedTable {
  const facts = new Map(found.map((one) => [`${one.topic}/${one.partition}`, one]));
  for (const { topic, partition } of read) {
    const name = `${topic}/${partition}`;
    facts.set(name, facts.get(name) ?? { topic, partition, rows: 0, records: 0 });
  }
  const differences = [...facts.values()].flatMap(({ topic, partition, rows, records }) => {
    const known = read.find((one) => one.topic === topic && one.partition === partition);
    const expected = known?.records ?? records;
    if (rows === expected && records === expected) return [];
    const count = { column: "records", published: String(expected), recomputed: String(rows) };
    return {
      kind: "different" as const,
      key: [
        { column: "topic", value: topic },
        { column: "partition", value: String(partition) },
      ],
      columns: [count],
      explanation: `${expected} records were read, bronze holds ${rows}, of ${records} offsets`,
    };
  });
  const rows = found.reduce((sum, one) => sum + one.rows, 0);
  const counts = { different: differences.length, extra: 0, missing: 0, open: 0 };
  return { table: "bronze", place: "lake", rows, ...counts, differences };
}

function nothingAudited(skipped: AuditReport["skipped"]): MillpondError {
  const reasons = skipped.map(({ table, reason }) => `table "${table}" ${reason}`);
  return new MillpondError("USAGE", `nothing was audited: ${reasons.join("; ")}`);
}

export const isEqual = ({ different, extra, missing }: AuditedTable): boolean =>
  different + extra + missing === 0;

/** @throws MillpondError USAGE for a table that is not there. */
export function auditedLayouts({
  definition,
  table,
}: Pick<AuditOptions, "definition" | "table">): TableLayout[] {
  const layouts = tableLayouts(definition).filter(({ kind }) => kind !== "bronze");
  if (table === undefined) return layouts;
  const found = layouts.filter(({ name }) => name === table);
  if (found.length > 0) return found;
  const names = layouts.map(({ name }) => name).join(", ");
  throw new MillpondError("USAGE", `there is no table "${table}" to audit: choose one of ${names}`);
}

/** The pipeline's tables that are computed anew, and those that can't be. */
function recomputed({ definition, functions }: AuditOptions, layouts: readonly TableLayout[]) {
  const wanted = new Set(layouts.map(({ name }) => name));
  const needed = definition.tables.filter(({ name }) => wanted.has("late") || wanted.has(name));
  const hasMap = ({ steps }: TableNode) => steps.some(({ kind }) => kind === "map");
  const lacking = functions === undefined ? needed.filter(hasMap) : [];
  return {
    tables: needed.filter((table) => !lacking.includes(table)),
    skipped: lacking.map(({ name }) => ({
      table: name,
      reason: "runs a map function, which only the pipeline's file holds: give that file",
    })),
  };
}

/** Event time that every partition with records has passed, by stream. */
async function passedInBronze(
  connection: DuckDBConnection,
  { streams }: PipelineDefinition,
): Promise<Map<string, number>> {
  const passed = new Map<string, number>();
  for (const { name } of streams) {
    const [row] = await rowsOf(
      connection,
      `SELECT min(coalesce(w, -9e15)) AS ms FROM (
        SELECT p, max(w) AS w FROM (
          SELECT __p AS p, __passed AS w FROM ${eventsOf(name)} UNION ALL
          SELECT "partition", NULL FROM dead_letters WHERE topic = ${quoteText(name)})
        GROUP BY p)`,
    );
    passed.set(name, row?.ms === null ? Number.NEGATIVE_INFINITY : Number(row?.ms));
  }
  return passed;
}

interface TableFacts {
  readonly layout: TableLayout;
  readonly table: TableNode | undefined;
  readonly copy: PublishedCopy;
  readonly passed: ReadonlyMap<string, number>;
  /** Something to select the sums of all records from. */
  readonly accounting: string | null;
  /** Bronze has records twice. */
  readonly hasRepeats: boolean;
  /** Tables that could not be recomputed, whose late events are not expected either. */
  readonly left: readonly string[];
}

async function auditTable(
  place: AuditPlace,
  options: AuditOptions,
  facts: TableFacts,
): Promise<AuditedTable> {
  const { connection } = place;
  const { layout, table, copy } = facts;
  const key = keyOf(layout);
  const columns = recomputedColumns(layout);
  const published = `(SELECT * FROM ${copy.tables.get(layout.name)}
    WHERE ${conditions(options, facts, "published")})`;
  const own = `(SELECT ${table?.shape.kind === "rows" ? rowsColumns(layout) : "*"}
    FROM main.${quoteName(layout.name)})`;
  const right = `(SELECT * FROM ${own} WHERE ${conditions(options, facts, "recomputed")})`;
  const tolerances = table === undefined ? {} : tolerancesOf(table);
  const roundings = Object.values(tolerances).flatMap(({ rounding }) => rounding ?? []);
  const carried = isRevised(layout) ? ["__settled", ...roundings] : [];
  const comparison = { left: published, right, key, columns, tolerances, carried };
  const at = place.copies.indexOf(copy);
  const differences = `work.${quoteName(`differences_${at}_${layout.name}`)}`;
  const isDue = place.flushed ? "true" : isDueSql(place, layout, facts);
  const compare = (repeats: boolean) =>
    connection.run(`CREATE OR REPLACE TABLE ${differences} AS
      SELECT *, ${isDue} AS due FROM (${differencesSql({ ...comparison, repeats })})`);
  await compare(facts.hasRepeats);
  const [rows] = await rowsOf(
    connection,
    `SELECT (SELECT count(*) FROM ${published}) AS published,
      (SELECT count(*) FROM ${right}) AS recomputed,
      count(*) FILTER (kind = 'extra') AS extra, count(*) FILTER (kind = 'missing') AS missing
    FROM ${differences}`,
  );
  // Unless a published row is there twice, each one has met a recomputed one of its own.
  const met = [rows!.published, rows!.recomputed].map(Number);
  const isRepeated = met[0]! - Number(rows!.extra) !== met[1]! - Number(rows!.missing);
  if (isRepeated && !facts.hasRepeats) await compare(true);
  if (table?.shape.kind === "windowed") {
    await judgeOpenRows(connection, { definition: options.definition, layout, table, differences });
  }
  const [row] = await rowsOf(
    connection,
    `SELECT count(*) FILTER (due AND kind = 'different') AS different,
      count(*) FILTER (due AND kind = 'extra') AS extra,
      count(*) FILTER (due AND kind = 'missing') AS missing,
      count(*) FILTER (NOT due) AS open
    FROM ${differences}`,
  );
  const counts = {
    rows: Number(rows!.published),
    different: Number(row!.different),
    extra: Number(row!.extra),
    missing: Number(row!.missing),
    open: Number(row!.open),
  };
  const audited = { table: layout.name, place: copy.place, ...counts, differences: [] };
  if (isEqual(audited)) return audited;
  const found = await examples(connection, options, { ...facts, key, columns }, differences);
  return { ...audited, differences: found };
}

const rowsColumns = ({ columns }: TableLayout): string =>
  columns.some(({ name }) => name === "event_time") ? "*, __event_time AS event_time" : "*";

function conditions(
  { fromMs, toMs }: AuditOptions,
  { layout, left }: TableFacts,
  side: "published" | "recomputed",
): string {
  const all: string[] = [];
  // A dead letter has no event time.
  const hasTime = layout.kind !== "dead_letters";
  const time = `epoch_ms(${quoteName(layout.dateColumn)})`;
  if (fromMs !== undefined && hasTime) all.push(`${time} >= ${fromMs}`);
  if (toMs !== undefined && hasTime) all.push(`${time} < ${toMs}`);
  if (layout.kind === "late" && side === "published" && left.length > 0) {
    all.push(`"table" NOT IN (${left.map(quoteText).join(", ")})`);
  }
  return all.length === 0 ? "true" : all.join(" AND ");
}

/** Whether a row must be published as recomputed: its window has closed. */
function isDueSql(
  { pending }: AuditPlace,
  layout: TableLayout,
  { table, passed }: TableFacts,
): string {
  if (table === undefined || table.shape.kind === "rows") return "true";
  const watermark = passed.get(table.stream) ?? Number.NEGATIVE_INFINITY;
  const ms = Number.isFinite(watermark) ? String(watermark) : "-9e15";
  const end = "epoch_ms(coalesce(l0, r0))";
  if (layout.kind === "session") {
    const isExtra = `(kind = 'extra' AND (again OR NOT ${withinOpenSessionSql(layout)}))`;
    return `(coalesce(__settled, false) OR ${isExtra})`;
  }
  const starts = pending.get(layout.name) ?? [];
  const isPending = starts.length === 0 ? "false" : `epoch_ms(k0) IN (${starts.join(", ")})`;
  const isSettled = `coalesce(__settled, false) AND NOT ${isPending}`;
  // What a window counts it goes on counting: a row that nothing explains will not be explained.
  return `(kind = 'extra' OR (${isSettled} AND (kind = 'different' OR ${end} <= ${ms})))`;
}

/**
 * A session that was published open lies within what became of it, which is withdrawn and published
 * anew when that closes: by its own partition's watermark, which others may have passed long ago.
 */
function withinOpenSessionSql({ name, key }: TableLayout): string {
  const groups = key
    .slice(1)
    .map((group, i) => `s.${quoteName(group)} IS NOT DISTINCT FROM k${i + 1}`);
  const times = "k0 BETWEEN s.session_start AND s.session_end AND l0 <= s.session_end";
  return `EXISTS (SELECT 1 FROM main.${quoteName(name)} AS s
    WHERE ${["NOT coalesce(s.__settled, false)", times, ...groups].join(" AND ")})`;
}

async function examples(
  connection: DuckDBConnection,
  { definition, examples: count }: AuditOptions,
  facts: TableFacts & { readonly key: readonly string[]; readonly columns: readonly ColumnNode[] },
  differences: string,
): Promise<Difference[]> {
  const { layout, table, key, columns } = facts;
  const tolerances = table === undefined ? {} : tolerancesOf(table);
  const kinds = new Map(layout.columns.map(({ name, type }) => [name, type.kind]));
  const shown = [
    ...key.map((name, i) => textSql(`k${i}`, kinds.get(name))),
    ...columns.flatMap(({ type }, i) => ["l", "r"].map((s) => textSql(`${s}${i}`, type.kind))),
  ].map((sql, i) => `${sql} AS s${i}`);
  const same = columns.map(
    ({ name }, i) => `${agreesSql(`l${i}`, `r${i}`, tolerances[name])} AS same${i}`,
  );
  const order = key.map((_, i) => `k${i}`).join(", ");
  const rows = await rowsOf(
    connection,
    `SELECT rowid AS id, kind, ${[...shown, ...same].join(", ")} FROM ${differences}
    WHERE due ORDER BY ${order} LIMIT ${count}`,
  );
  const found: Difference[] = [];
  for (const row of rows) {
    const kind = kindOf(row.kind);
    const cells = columns.map(({ name }, i) => ({
      column: name,
      published: cellText(row[`s${key.length + 2 * i}`]),
      recomputed: cellText(row[`s${key.length + 2 * i + 1}`]),
      isSame: row[`same${i}`] === true,
    }));
    const rowid = String(row.id);
    found.push({
      kind,
      key: key.map((column, i) => ({ column, value: cellText(row[`s${i}`]) ?? "NULL" })),
      columns: cells
        .filter(({ isSame }) => kind !== "different" || !isSame)
        .map(({ column, published, recomputed }) => ({ column, published, recomputed })),
      explanation: await explain(connection, {
        definition,
        layout,
        table,
        differences,
        rowid,
        kind,
        accounting: facts.accounting,
      }),
    });
  }
  return found;
}

function kindOf(value: unknown): Difference["kind"] {
  return value === "missing" || value === "extra" ? value : "different";
}

const cellText = (value: unknown): string | null => (value === null ? null : String(value));

const BYTES_SHOWN_MAX = 200;

export function textSql(sql: string, kind: string | undefined): string {
  if (kind === "timestamp") return `strftime(${sql}, '%Y-%m-%dT%H:%M:%S.%gZ')`;
  // As text where they are some; a record may have a megabyte.
  if (kind === "bytes") {
    return `left(coalesce(TRY(decode(${sql})), CAST(${sql} AS VARCHAR)), ${BYTES_SHOWN_MAX})`;
  }
  return `CAST(${sql} AS VARCHAR)`;
}

/** The sums that a run printed, against those of the recomputation. */
async function auditAccounting(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  { place, accounting }: PublishedCopy,
): Promise<AuditedTable> {
  const names = ["records", "events", "dead_letters", "counted", "late", "duplicates"];
  const reasons = await rowsOf(
    connection,
    "SELECT topic, reason, count(*) AS n FROM main.dead_letters GROUP BY ALL",
  );
  const countOf = (stream: unknown, reason: string) =>
    reasons.find((row) => row.topic === stream && row.reason === reason)?.n ?? 0;
  const rowTables = new Set(
    definition.tables.filter(({ shape }) => shape.kind === "rows").map(({ name }) => name),
  );
  const isThere = accounting.kind === "there";
  const published = isThere ? await rowsOf(connection, `FROM ${accounting.from}`) : [];
  const recomputed = await rowsOf(connection, accountingSql(definition));
  const differences: Difference[] = [];
  for (const right of recomputed) {
    const left = published.find(({ kind, name }) => kind === right.kind && name === right.name);
    // Of a row table only its rows are counted, the late ones among them.
    const isRows = right.kind === "table" && rowTables.has(String(right.name));
    const pairs = isRows
      ? [["rows", left?.rows, Number(right.counted) + Number(right.late)] as const]
      : names
          .filter((name) => right[name] !== null && !(right.kind === "stream" && name === "late"))
          .map((name) => [name, left?.[name], right[name]] as const);
    const letters = DEAD_LETTER_REASONS.map(
      (reason) => [reason, left?.[reason], countOf(right.name, reason)] as const,
    );
    const columns = [...pairs, ...(right.kind === "stream" ? letters : [])]
      .map(([column, a, b]) => ({
        column,
        published: a === undefined || a === null ? null : String(a),
        recomputed: String(b),
      }))
      .filter((pair) => pair.published !== pair.recomputed);
    if (columns.length === 0) continue;
    const key = ["kind", "name"].map((column) => ({ column, value: String(right[column]) }));
    const explanation = "the sums of all partitions, as the last run left them";
    const kind = left === undefined ? "missing" : "different";
    differences.push({ kind, key, columns, explanation });
  }
  const missing = differences.filter(({ kind }) => kind === "missing").length;
  const different = differences.length - missing;
  const expected = recomputed.map(({ kind, name }) => `${kind} ${name}`);
  for (const { kind, name } of published) {
    const at = expected.indexOf(`${kind} ${name}`);
    if (at >= 0) expected.splice(at, 1);
    else {
      const key = Object.entries({ kind, name }).map(([column, value]) => ({
        column,
        value: String(value),
      }));
      const explanation = "the pipeline has nothing that it counts, or it is there twice";
      differences.push({ kind: "extra", key, columns: [], explanation });
    }
  }
  return {
    table: "accounting",
    place,
    rows: published.length,
    different,
    extra: differences.length - different - missing,
    missing,
    open: 0,
    differences,
  };
}
