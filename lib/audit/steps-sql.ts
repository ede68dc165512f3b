/** A table's steps (filter, derive, select, enrich, map) as nested SQL over its stream's events. */
import type {
  ColumnNode,
  ColumnType,
  PipelineDefinition,
  ReferenceNode,
  StepNode,
  StreamNode,
  TableNode,
} from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import { expressionSql } from "./expression-sql.js";
import { workingType } from "./sql-types.js";

/** A user's function to run over the rows of `from`, which no SQL can say. */
export interface MapRun {
  readonly kind: "map";
  readonly table: string;
  readonly name: string;
  /** A query; its columns are those of the row, and the carried ones. */
  readonly from: string;
  readonly input: ReadonlyMap<string, ColumnType>;
  readonly output: readonly ColumnNode[];
  /** The table to make. */
  readonly into: string;
}

interface Steps {
  readonly sql: string;
  /** The columns after the steps, beside the `__` ones that every query carries. */
  readonly columns: ReadonlyMap<string, ColumnType>;
  /** To be run before, in this order. */
  readonly maps: readonly MapRun[];
}

/** Columns that every step hands on: the event's place, its times, and what dedup says of it. */
export const CARRIED: readonly (readonly [name: string, type: string])[] = [
  ["__p", "INTEGER"],
  ["__o", "BIGINT"],
  ["__t", "BIGINT"],
  ["__w", "BIGINT"],
  ["__passed", "BIGINT"],
  ["__unchecked", "BOOLEAN"],
  ["__repeated", "BOOLEAN"],
];
const CARRIED_NAMES = CARRIED.map(([name]) => name);

export function stepsSql(
  table: TableNode,
  stream: StreamNode,
  source: string,
  references: ReadonlyMap<string, ReferenceNode>,
): Steps {
  let columns = new Map<string, ColumnType>(stream.fields.map((f) => [f.name, f.type]));
  const fields = [...columns.keys()].map(quoteName);
  let sql = `SELECT ${[...CARRIED_NAMES, ...fields].join(", ")} FROM ${source}`;
  const maps: MapRun[] = [];
  for (const step of table.steps) {
    if (step.kind === "map") {
      const into = `work.${quoteName(`mapped_${table.name}_${maps.length}`)}`;
      const { name, output } = step;
      maps.push({ kind: "map", table: table.name, name, from: sql, input: columns, output, into });
      columns = new Map(output.map((column) => [column.name, column.type]));
      sql = `SELECT * FROM ${into}`;
    } else ({ sql, columns } = stepSql(step, sql, columns, references));
  }
  return { sql, columns, maps };
}

type Columns = Map<string, ColumnType>;

function stepSql(
  step: Exclude<StepNode, { kind: "map" }>,
  from: string,
  columns: Columns,
  references: ReadonlyMap<string, ReferenceNode>,
): { sql: string; columns: Columns } {
  switch (step.kind) {
    case "filter": {
      const predicate = expressionSql(step.predicate, columns).sql;
      return { sql: `SELECT * FROM (${from}) WHERE ${predicate}`, columns };
    }
    case "derive": {
      const derived = new Map(step.columns.map((c) => [c.name, expressionSql(c.expr, columns)]));
      const kept = [...columns.keys()].filter((name) => !derived.has(name)).map(quoteName);
      const added = [...derived].map(([name, { sql }]) => `${sql} AS ${quoteName(name)}`);
      const types = [...derived].map(([name, { type }]): [string, ColumnType] => [name, type]);
      return {
        sql: `SELECT ${[...CARRIED_NAMES, ...kept, ...added].join(", ")} FROM (${from})`,
        columns: new Map([...columns, ...types]),
      };
    }
    case "select": {
      const picked = step.columns.map((c) => `${quoteName(c.from)} AS ${quoteName(c.name)}`);
      return {
        sql: `SELECT ${[...CARRIED_NAMES, ...picked].join(", ")} FROM (${from})`,
        columns: new Map(step.columns.map((c) => [c.name, columns.get(c.from)!])),
      };
    }
    case "enrich":
      return enrichSql(step, from, columns, references);
  }
}

function enrichSql(
  step: Extract<StepNode, { kind: "enrich" }>,
  from: string,
  columns: Columns,
  references: ReadonlyMap<string, ReferenceNode>,
): { sql: string; columns: Columns } {
  const reference = references.get(step.reference)!;
  const on = step.on.map(
    (pair) => `e.${quoteName(pair.column)} = r.${quoteName(pair.referenceColumn)}`,
  );
  const replaced = new Set(step.columns.map((column) => column.name));
  const kept = [...columns.keys()].filter((name) => !replaced.has(name));
  const outputs = [
    ...[...CARRIED_NAMES, ...kept].map((name) => `e.${quoteName(name)}`),
    ...step.columns.map((c) => `r.${quoteName(c.from)} AS ${quoteName(c.name)}`),
  ];
  const join = step.join === "left" ? "LEFT JOIN" : "JOIN";
  const types = step.columns.map((c): [string, ColumnType] => [
    c.name,
    reference.columns.find((column) => column.name === c.from)!.type,
  ]);
  return {
    sql: `SELECT ${outputs.join(", ")} FROM (${from}) AS e
      ${join} ${referenceTable(step.reference)} AS r ON ${on.join(" AND ")}`,
    columns: new Map([...columns, ...types]),
  };
}

const referenceTable = (name: string): string => `work.${quoteName(`reference_${name}`)}`;

/** Loads the reference tables with their declared types; DuckDB itself reads the formats. */
export function referenceStatements(
  definition: PipelineDefinition,
  files: ReadonlyMap<string, string>,
): string[] {
  return definition.references.flatMap((reference) => {
    const path = files.get(reference.name);
    if (path === undefined) {
      throw new MillpondError("USAGE", `Give the file of reference table "${reference.name}".`);
    }
    const columns = reference.columns.map(({ name, type }) => {
      const value = quoteName(name);
      if (type.kind !== "timestamp") return `CAST(${value} AS ${workingType(type)}) AS ${value}`;
      return `epoch_ms(CAST(${value} AS TIMESTAMPTZ)) AS ${value}`;
    });
    const place = referenceTable(reference.name);
    const query = `SELECT ${columns.join(", ")} FROM ${fileSql(reference.format, path)}`;
    return [`CREATE TABLE ${place} AS ${query}`, ...uniqueKeys(definition, reference)];
  });
}

function fileSql(format: ReferenceNode["format"], path: string): string {
  if (format === "csv") return `read_csv(${quoteText(path)}, header = true, all_varchar = true)`;
  return format === "json" ? `read_json(${quoteText(path)})` : `read_parquet(${quoteText(path)})`;
}

/** A join over a repeated key would count an event twice, which no reading of `enrich` does. */
function uniqueKeys(definition: PipelineDefinition, reference: ReferenceNode): string[] {
  const table = referenceTable(reference.name);
  const keys = definition.tables.flatMap((node) =>
    node.steps.flatMap((step) =>
      step.kind === "enrich" && step.reference === reference.name
        ? [step.on.map((pair) => quoteName(pair.referenceColumn)).join(", ")]
        : [],
    ),
  );
  const repeated = quoteText(`reference table "${reference.name}" repeats a key; make it unique`);
  return [...new Set(keys)].map(
    (names) => `SELECT CASE WHEN count(*) > 0 THEN error(${repeated}) END
    FROM (SELECT ${names} FROM ${table} GROUP BY ALL HAVING count(*) > 1)`,
  );
}
