/** A table's steps (filter, derive, select, enrich) as nested SQL over its stream's events. */
import type { DuckDBConnection } from "@duckdb/node-api";
import type {
  ColumnType,
  PipelineDefinition,
  ReferenceNode,
  StepNode,
  StreamNode,
  TableNode,
} from "../../lib/define/definition.js";
import { MillpondError } from "../../lib/errors.js";
import { expressionSql } from "./expression-sql.js";
import { readRows } from "./rows.js";
import { quoteName, quoteText, workingType } from "./sql-types.js";

interface Steps {
  readonly sql: string;
  /** The columns after the steps, beside the `__` ones that every query carries. */
  readonly columns: ReadonlyMap<string, ColumnType>;
}

const CARRIED = ["__p", "__o", "__t", "__w", "__unchecked", "__repeated"];

export function stepsSql(
  table: TableNode,
  stream: StreamNode,
  source: string,
  references: ReadonlyMap<string, ReferenceNode>,
): Steps {
  let columns = new Map<string, ColumnType>(stream.fields.map((f) => [f.name, f.type]));
  const fields = [...columns.keys()].map(quoteName);
  let sql = `SELECT ${[...CARRIED, ...fields].join(", ")} FROM ${source}`;
  for (const step of table.steps) {
    ({ sql, columns } = stepSql(step, sql, columns, references));
  }
  return { sql, columns };
}

type Columns = Map<string, ColumnType>;

function stepSql(
  step: StepNode,
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
        sql: `SELECT ${[...CARRIED, ...kept, ...added].join(", ")} FROM (${from})`,
        columns: new Map([...columns, ...types]),
      };
    }
    case "select": {
      const picked = step.columns.map((c) => `${quoteName(c.from)} AS ${quoteName(c.name)}`);
      return {
        sql: `SELECT ${[...CARRIED, ...picked].join(", ")} FROM (${from})`,
        columns: new Map(step.columns.map((c) => [c.name, columns.get(c.from)!])),
      };
    }
    case "enrich":
      return enrichSql(step, from, columns, references);
    case "map":
      throw new MillpondError(
        "USAGE",
        `The reference cannot run the function of map "${step.name}"; compare a table without it.`,
      );
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
    ...[...CARRIED, ...kept].map((name) => `e.${quoteName(name)}`),
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
export async function createReferences(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  files: ReadonlyMap<string, string>,
): Promise<void> {
  for (const reference of definition.references) {
    const path = files.get(reference.name);
    if (path === undefined) {
      throw new MillpondError("USAGE", `Give the file of reference table "${reference.name}".`);
    }
    const columns = reference.columns.map(({ name, type }) => {
      const value = quoteName(name);
      if (type.kind !== "timestamp") return `CAST(${value} AS ${workingType(type)}) AS ${value}`;
      return `epoch_ms(CAST(${value} AS TIMESTAMPTZ)) AS ${value}`;
    });
    await connection.run(`CREATE TABLE ${referenceTable(reference.name)} AS
      SELECT ${columns.join(", ")} FROM ${fileSql(reference.format, path)}`);
    await refuseRepeatedKeys(connection, definition, reference);
  }
}

function fileSql(format: ReferenceNode["format"], path: string): string {
  if (format === "csv") return `read_csv(${quoteText(path)}, header = true, all_varchar = true)`;
  return format === "json" ? `read_json(${quoteText(path)})` : `read_parquet(${quoteText(path)})`;
}

/** A join over a repeated key would count an event twice, which no reading of `enrich` does. */
async function refuseRepeatedKeys(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  reference: ReferenceNode,
): Promise<void> {
  for (const step of definition.tables.flatMap((table) => table.steps)) {
    if (step.kind !== "enrich" || step.reference !== reference.name) continue;
    const keys = step.on.map((pair) => quoteName(pair.referenceColumn)).join(", ");
    const repeated = await readRows(
      connection,
      `SELECT ${keys} FROM ${referenceTable(reference.name)} GROUP BY ALL HAVING count(*) > 1`,
    );
    if (repeated.length > 0) {
      const message = `Reference table "${reference.name}" repeats ${keys}; make it unique.`;
      throw new MillpondError("INPUT", message);
    }
  }
}
