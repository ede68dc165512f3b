/**
 * Decoding by DuckDB: each declared field's value, or why the record is a dead letter.
 * Two limits: DuckDB re-serialises JSON numbers, so those with a fraction or exponent are judged
 * by their first 15 digits; ISO years outside 0001–9999 are not read.
 */
import type {
  ColumnType,
  FieldNode,
  ScalarType,
  StreamNode,
  TimestampFormat,
} from "../define/definition.js";
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import { expressionSql } from "./expression-sql.js";
import { literalSql, workingType } from "./sql-types.js";

/** SQL for one JSON value: whether it has the declared kind, and its value (null: out of range). */
interface ValueSql {
  readonly isKind: string;
  readonly value: string;
}

const ISO_INSTANT =
  "^([0-9]{4}-[0-9]{2}-[0-9]{2})" +
  "(?:[Tt ]([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\\.([0-9]+))?)?" +
  "([Zz]|([+-])([01][0-9]|2[0-3]):?([0-5][0-9])?)?)?$";
const USUAL_INSTANT =
  "^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,3})?Z$";
const ISO_GROUPS = "['d', 'h', 'mi', 's', 'f', 'z', 'sign', 'zh', 'zm']";
const PLAIN_DIGITS = "'^-?[0-9]{1,18}$'";
const EXACT = "DECIMAL(38,9)";
const INSTANT_MS_MAX = "8640000000000000";

/**
 * A query over `source` (columns p, o, line, fault, ts) that gives partition `__p`, offset `__o`,
 * `__reason` (null for an event), event time `__t` and every field by its name.
 */
export function decodeSql(stream: StreamNode, source: string): string {
  const paths = allPaths(stream.fields);
  const list = `[${paths.map((path) => quoteText(path)).join(", ")}]`;
  const at = (path: readonly string[]): number => paths.indexOf(jsonPointer(path)) + 1;
  const parsed: string[] = [];
  const values: string[] = [];
  const reasons: string[] = [];
  for (const [index, field] of stream.fields.entries()) {
    const json = `j[${at(field.path)}]`;
    const { isKind, value: read } = valueSql(field, json, `s[${at(field.path)}]`, `m${index}`);
    parsed.push(`${read} AS v${index}, coalesce(${isKind}, false) AS k${index}`);
    const { value, reason } = fieldSql(field, at, index);
    values.push(`${value} AS ${quoteName(field.name)}`);
    reasons.push(`${reason} AS __reason${index}`);
  }
  const eventTime = quoteName(stream.eventTime);
  const reasonNames = stream.fields.map((_, index) => `__reason${index}`);
  const future = `CASE WHEN ${eventTime} > ts + ${stream.maxAheadMs}
    THEN 'event_time_in_future' END`;
  const reason = ["fault", ...reasonNames, future, failedCheckSql(stream)].join(", ");
  const names = stream.fields.map((field) => quoteName(field.name)).join(", ");
  return `WITH checked AS MATERIALIZED (
      SELECT p, o, ts, fault, CASE WHEN fault IS NULL THEN line ELSE '{}' END AS doc
      FROM ${source}),
    extracted AS (
      SELECT p, o, ts, fault, doc, json_extract(doc, ${list})::VARCHAR[] AS j,
        json_extract_string(doc, ${list}) AS s
      FROM checked),
    unrepeated AS (SELECT p, o, ts, coalesce(fault, ${repeatedKeySql(stream.fields)}) AS fault, j, s
      FROM extracted),
    ${instantsSql(stream.fields, at)},
    parsed AS (SELECT p, o, ts, fault, j, ${parsed.join(",\n      ")} FROM instants),
    fields AS (SELECT p, o, ts, fault, ${[...values, ...reasons].join(",\n      ")} FROM parsed)
    SELECT p AS __p, o AS __o, coalesce(${reason}) AS __reason, ${eventTime} AS __t, ${names}
    FROM fields`;
}

/**
 * Parsing an instant costs more than all else of a record, so it is done once, and the usual form
 * (in UTC, at most milliseconds) is left to DuckDB's own cast: its result is column `m<field>`.
 */
function instantsSql(
  fields: readonly FieldNode[],
  at: (path: readonly string[]) => number,
): string {
  const texts = fields.flatMap((field, index) =>
    isIso(field) && field.type.kind === "timestamp"
      ? [{ index, field, text: `s[${at(field.path)}]` }]
      : [],
  );
  const usual = texts.map(
    ({ index, text }) => `, CASE WHEN regexp_matches(${text}, ${quoteText(USUAL_INSTANT)})
        THEN epoch_ms(TRY_CAST(${text} AS TIMESTAMPTZ)) END AS u${index}`,
  );
  const groups = texts.map(
    ({ index, text }) => `, CASE WHEN u${index} IS NULL
        THEN regexp_extract(${text}, ${quoteText(ISO_INSTANT)}, ${ISO_GROUPS}) END AS g${index}`,
  );
  const instants = texts.map(
    ({ index, field }) => `, CASE WHEN u${index} IS NOT NULL THEN u${index}
        ELSE ${isoMsSql(`g${index}`, formatOf(field))} END AS m${index}`,
  );
  return `usual AS (SELECT *${usual.join("")} FROM unrepeated),
    parts AS (SELECT *${groups.join("")} FROM usual),
    instants AS (SELECT *${instants.join("")} FROM parts)`;
}

const formatOf = (field: FieldNode): TimestampFormat => field.format ?? { kind: "iso" };
const isIso = (field: FieldNode): boolean => formatOf(field).kind === "iso";

function failedCheckSql(stream: StreamNode): string {
  const columns = new Map<string, ColumnType>(stream.fields.map((f) => [f.name, f.type]));
  const checks = stream.fields.flatMap((field) => field.checks);
  if (checks.length === 0) return "NULL";
  const failed = checks.map((check) => `(${expressionSql(check, columns).sql}) IS FALSE`);
  return `CASE WHEN ${failed.join(" OR ")} THEN 'failed_check' END`;
}

/** A declared path's key that is twice in its object makes the record malformed. */
function repeatedKeySql(fields: readonly FieldNode[]): string {
  const keysByParent = new Map<string, Set<string>>();
  for (const { path } of fields) {
    for (let depth = 0; depth < path.length; depth++) {
      const parent = jsonPointer(path.slice(0, depth));
      keysByParent.set(parent, (keysByParent.get(parent) ?? new Set()).add(path[depth]));
    }
  }
  const repeated = [...keysByParent].map(([parent, keys]) => {
    const declared = [...keys].map((key) => quoteText(key)).join(", ");
    const found = `list_filter(json_keys(doc, ${quoteText(parent)}),
      lambda k: k IN (${declared}))`;
    return `len(${found}) > len(list_distinct(${found}))`;
  });
  // Where there are as many keys as were found values, none is there twice: nor is one unknown.
  // (A key of digits may have found its value in an array, which has no keys.)
  const parents = [...keysByParent.keys()].map((parent) => quoteText(parent)).join(", ");
  const isPlain = [...keysByParent.values()].every((keys) => ![...keys].some(mayBeIndex));
  const isUsual = isPlain && `len(flatten(json_keys(doc, [${parents}]))) = list_count(j)`;
  return `CASE WHEN ${isUsual} THEN NULL WHEN ${repeated.join(" OR ")} THEN 'malformed' END`;
}

const mayBeIndex = (key: string): boolean => /^[0-9]+$/.test(key);

/** As a JSON pointer (RFC 6901), where every key means itself: in a path `*` and `"` do not. */
const jsonPointer = (path: readonly string[]): string =>
  path.map((key) => `/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");

function allPaths(fields: readonly FieldNode[]): string[] {
  const paths = new Set<string>();
  for (const { path } of fields) {
    for (let length = 1; length <= path.length; length++) {
      paths.add(jsonPointer(path.slice(0, length)));
    }
  }
  return [...paths];
}

function fieldSql(
  field: FieldNode,
  at: (path: readonly string[]) => number,
  index: number,
): { value: string; reason: string } {
  const json = `j[${at(field.path)}]`;
  const fallback =
    field.default === undefined || field.type.kind !== scalarOf(field.type).kind
      ? "NULL"
      : literalSql(field.default, scalarOf(field.type));
  const whenNull = field.nullable ? "NULL" : fallback;
  const absentIsFine = field.nullable || field.default !== undefined;
  const parents = field.path.slice(1).map((_, i) => `j[${at(field.path.slice(0, i + 1))}]`);
  const parentIsNoObject = parents
    .map((parent) => `(${parent} <> 'null' AND NOT starts_with(${parent}, '{'))`)
    .join(" OR ");
  return {
    value: `CASE WHEN ${json} IS NULL THEN ${fallback} WHEN ${json} = 'null' THEN ${whenNull}
      ELSE v${index} END`,
    reason: `CASE ${parentIsNoObject === "" ? "" : `WHEN ${parentIsNoObject} THEN 'wrong_type'`}
      WHEN ${json} IS NULL OR ${json} = 'null'
        THEN ${absentIsFine ? "NULL" : "'missing_field'"}
      WHEN NOT k${index} THEN 'wrong_type' WHEN v${index} IS NULL THEN 'out_of_range' END`,
  };
}

const scalarOf = (type: ColumnType): ScalarType => {
  if (type.kind === "list") return type.element;
  if (type.kind === "topK" || type.kind === "bytes") return { kind: "string" };
  return type;
};

function valueSql(field: FieldNode, json: string, text: string, instant: string): ValueSql {
  if (field.type.kind !== "list") {
    return scalarSql(field, scalarOf(field.type), { json, text, instant });
  }
  const elements = `json_extract(${json}, '$[*]')`;
  const item = "json_extract_string(e, '$')";
  const groups = `regexp_extract(${item}, ${quoteText(ISO_INSTANT)}, ${ISO_GROUPS})`;
  const element = scalarSql(field, field.type.element, {
    json: "e::VARCHAR",
    text: item,
    instant: isoMsSql(`(${groups})`, formatOf(field)),
  });
  const parsed = `list_transform(${elements}, lambda e: ${element.value})`;
  const kinds = `list_transform(${elements}, lambda e: coalesce(${element.isKind}, false))`;
  return {
    isKind: `(starts_with(${json}, '[') AND NOT list_contains(${kinds}, false))`,
    value: `CASE WHEN len(list_filter(${parsed}, lambda e: e IS NULL)) = 0
      THEN CAST(${parsed} AS ${workingType(field.type)}) END`,
  };
}

/** A JSON value in SQL: as JSON, as text, and the instant that the text is. */
interface JsonSql {
  readonly json: string;
  readonly text: string;
  readonly instant: string;
}

function scalarSql(field: FieldNode, type: ScalarType, { json, text, instant }: JsonSql): ValueSql {
  const isNumber = `regexp_matches(${json}, '^-?[0-9]')`;
  const exact = `TRY_CAST(${json} AS ${EXACT})`;
  switch (type.kind) {
    case "string": {
      const allowed = field.oneOf?.map((value) => quoteText(value)).join(", ");
      const value =
        allowed === undefined ? text : `CASE WHEN ${text} IN (${allowed}) THEN ${text} END`;
      return { isKind: `starts_with(${json}, '"')`, value };
    }
    case "boolean":
      return { isKind: `${json} IN ('true', 'false')`, value: `(${json} = 'true')` };
    case "int":
    case "bigint":
      // Most are plain digits, which need no decimals of 38 digits.
      return {
        isKind: `CASE WHEN regexp_matches(${json}, ${PLAIN_DIGITS}) THEN true
          ELSE ${isNumber} AND coalesce(${exact} % 1 = 0, true) END`,
        value: `CASE WHEN regexp_matches(${json}, ${PLAIN_DIGITS})
          THEN TRY_CAST(${json} AS ${workingType(type)})
          ELSE TRY_CAST(${exact} AS ${workingType(type)}) END`,
      };
    case "double": {
      const value = `TRY_CAST(${json} AS DOUBLE)`;
      return { isKind: isNumber, value: `CASE WHEN isfinite(${value}) THEN ${value} END` };
    }
    case "decimal": {
      const value = `TRY_CAST(${json} AS ${workingType(type)})`;
      const isExact = `TRY_CAST(${json} AS DECIMAL(38,18)) = ${value}`;
      return { isKind: isNumber, value: `CASE WHEN ${isExact} THEN ${value} END` };
    }
    case "timestamp": {
      const format = formatOf(field);
      if (format.kind === "iso") {
        const isKind = `(starts_with(${json}, '"') AND ${instant} IS NOT NULL)`;
        return { isKind, value: inRange(instant) };
      }
      return { isKind: isNumber, value: inRange(epochMsSql(exact, format.kind)) };
    }
  }
}

const inRange = (ms: string): string =>
  `CASE WHEN abs(${ms}) <= ${INSTANT_MS_MAX} THEN (${ms})::BIGINT END`;

/**
 * Of the groups of an instant: whole seconds plus the first three digits of the fraction, which is
 * floored, before 1970 too.
 */
function isoMsSql(m: string, format: TimestampFormat): string {
  const number = (group: string): string => `coalesce(TRY_CAST(${m}.${group} AS BIGINT), 0)`;
  const day = `epoch_ms(TRY_CAST(${m}.d AS DATE)::TIMESTAMP)`;
  const time = `${number("h")} * 3600000 + ${number("mi")} * 60000 + ${number("s")} * 1000`;
  const fraction = `TRY_CAST(rpad(left(${m}.f, 3), 3, '0') AS BIGINT)`;
  const offset = `(CASE ${m}.sign WHEN '-' THEN -1 ELSE 1 END) *
    (${number("zh")} * 3600000 + ${number("zm")} * 60000)`;
  const ms = `(${day} + ${time} + ${fraction} - ${offset})`;
  if (format.withoutOffset === "utc") return ms;
  return `(CASE WHEN ${m}.z <> '' THEN ${ms} END)`;
}

function epochMsSql(exact: string, kind: "epoch_s" | "epoch_ms" | "epoch_us"): string {
  if (kind === "epoch_s") return `TRY_CAST(TRY(floor(${exact} * 1000)) AS HUGEINT)`;
  const whole = `TRY_CAST(floor(${exact}) AS HUGEINT)`;
  if (kind === "epoch_ms") return whole;
  return `((${whole} - ((${whole} % 1000) + 1000) % 1000) // 1000)`;
}
