/**
 * Raw records as lines of text, or why they are none: what is JSON by the standard, and no more
 * deeply nested or longer than allowed. What the fields hold is left to the decoder.
 */
import type { StreamNode } from "../define/definition.js";
import { quoteText } from "../sinks/duckdb-types.js";

/** Objects and arrays inside each other; a record that has more is `oversize`. */
const NESTING_MAX = 128;

const STRING = `'"(?:[^"\\\\]|\\\\.)*"'`;
/**
 * What DuckDB's JSON reader takes and the standard does not; inside of text it means nothing. One
 * pattern each, and no `(?i)`: only then is what cannot match passed over at a quarter of the cost.
 */
const LOOSE = [`'[nN][aA][nN]'`, `'[iI][nN][fF]'`, `',[ \\t\\r\\n]*[\\]}]'`];
/** More brackets than may be nested are at least so many bytes, with those that close them. */
const NESTED_BYTES_MIN = 2 * (NESTING_MAX + 1);

/**
 * A query over `bronze` (topic, partition, offset, timestamp, value) that gives the stream's
 * records as p, o, ts (epoch ms, or null), line and fault; one of the last two is null.
 */
export function recordsSql(stream: StreamNode, bronze: string): string {
  // The few lines that look suspicious are looked at without their texts.
  const bare = `regexp_replace(line, ${STRING}, '""', 'g')`;
  const brackets = `regexp_replace(${bare}, '[^\\[\\]{}]', '', 'g')`;
  const isLoose = LOOSE.map((loose) => `regexp_matches(line, ${loose})`).join(" OR ");
  const isLooseBare = LOOSE.map((loose) => `regexp_matches(${bare}, ${loose})`).join(" OR ");
  const isOpenedOften = `CASE WHEN bytes >= ${NESTED_BYTES_MIN}
          THEN regexp_matches(line, '(?:[\\[{][^\\[{]*){${NESTING_MAX + 1}}') ELSE false END`;
  const emptied = `list_reduce(list_transform(range(${NESTING_MAX}), lambda i: ''),
        lambda s, e: regexp_replace(s, '\\[\\]|\\{\\}', '', 'g'), ${brackets})`;
  return `SELECT p, o, ts, CASE WHEN fault IS NULL THEN line END AS line, fault
    FROM (SELECT p, o, ts, line, CASE
        WHEN bytes > ${stream.maxRecordBytes} THEN 'oversize'
        WHEN line IS NULL OR NOT json_valid(line) THEN 'malformed'
        WHEN NOT regexp_matches(line, '^[ \\t\\r\\n]*\\{') THEN 'malformed'
        WHEN (${isLoose}) AND (${isLooseBare}) THEN 'malformed'
        WHEN ${isOpenedOften} AND ${emptied} <> '' THEN 'oversize'
      END AS fault
      FROM (SELECT p, o, ts, bytes,
          CASE WHEN ascii(text) = 65279 THEN substr(text, 2) ELSE text END AS line
        FROM (SELECT "partition" AS p, "offset" AS o, epoch_ms("timestamp") AS ts,
            octet_length("value") AS bytes, TRY(decode("value")) AS text
          FROM ${bronze} WHERE topic = ${quoteText(stream.name)})))`;
}
