/**
 * Raw records as lines of text, or why they are none: what is JSON by the standard, and no more
 * deeply nested or longer than allowed. What the fields hold is left to the decoder.
 */
import type { StreamNode } from "../define/definition.js";
import { quoteText } from "../sinks/duckdb-types.js";

/** Objects and arrays inside each other; a record that has more is `oversize`. */
const NESTING_MAX = 128;

const STRING = `'"(?:[^"\\\\]|\\\\.)*"'`;
/** What DuckDB's JSON reader takes and the standard does not; inside of text it means nothing. */
const LOOSE = `'(?i)nan|inf|,[ \\t\\r\\n]*[\\]}]'`;

/**
 * A query over `bronze` (topic, partition, offset, timestamp, value) that gives the stream's
 * records as p, o, ts (epoch ms, or null), line and fault; one of the last two is null.
 */
export function recordsSql(stream: StreamNode, bronze: string): string {
  // The few lines that look suspicious are looked at without their texts.
  const bare = `regexp_replace(line, ${STRING}, '""', 'g')`;
  const brackets = `regexp_replace(${bare}, '[^\\[\\]{}]', '', 'g')`;
  const opened = "length(line) - length(replace(replace(line, '{', ''), '[', ''))";
  const emptied = `list_reduce(list_transform(range(${NESTING_MAX}), lambda i: ''),
        lambda s, e: regexp_replace(s, '\\[\\]|\\{\\}', '', 'g'), ${brackets})`;
  return `SELECT p, o, ts, CASE WHEN fault IS NULL THEN line END AS line, fault
    FROM (SELECT p, o, ts, line, CASE
        WHEN bytes > ${stream.maxRecordBytes} THEN 'oversize'
        WHEN line IS NULL OR NOT json_valid(line) THEN 'malformed'
        WHEN NOT regexp_matches(line, '^[ \\t\\r\\n]*\\{') THEN 'malformed'
        WHEN regexp_matches(line, ${LOOSE}) AND regexp_matches(${bare}, ${LOOSE}) THEN 'malformed'
        WHEN ${opened} > ${NESTING_MAX} AND ${emptied} <> '' THEN 'oversize'
      END AS fault
      FROM (SELECT p, o, ts, bytes,
          CASE WHEN ascii(text) = 65279 THEN substr(text, 2) ELSE text END AS line
        FROM (SELECT "partition" AS p, "offset" AS o, epoch_ms("timestamp") AS ts,
            octet_length("value") AS bytes, TRY(decode("value")) AS text
          FROM ${bronze} WHERE topic = ${quoteText(stream.name)})))`;
}
