/** A pipeline with every kind of table, and a log of clicks for it. */
import {
  count,
  countDistinct,
  double,
  duckdb,
  lake,
  minutes,
  type Pipeline,
  pipeline,
  session,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
} from "../../../lib/index.js";
import type { TestRecord } from "./kafka-support.js";

export const clicksStream = (lateness = minutes(1)) =>
  stream("clicks", {
    schema: { id: string(), user: string(), page: string(), cost: double(), at: timestamp() },
    key: "user",
    eventTime: "at",
    lateness,
    dedup: "id",
  });

export function clicksPipeline(options: { bronze?: boolean; lateness?: number } = {}): Pipeline {
  const { bronze = true, lateness = minutes(1) } = options;
  const clicks = clicksStream(lateness);
  return pipeline(
    "clicks-by-page",
    {
      pages: clicks
        .groupBy("page")
        .window(tumbling(minutes(1)))
        .aggregate({ views: count(), users: countDistinct("user"), cost: sum("cost") }),
      visits: clicks
        .groupBy("user")
        .window(session(minutes(2)))
        .aggregate({ views: count() }),
      expensive: clicks.filter((click) => click.cost.gt(80)).rows(),
    },
    { sinks: [lake({ bronze }), duckdb()] },
  );
}

const START_MS = Date.UTC(2025, 0, 1);

/** Records with late events, duplicates, dead letters, tombstones, missing keys and offset gaps. */
export function clickRecords(count: number, partition = 0): TestRecord[] {
  let offset = 100;
  return Array.from({ length: count }, (_, i) => {
    offset += i % 13 === 0 ? 3 : 1;
    const timestamp = START_MS + i * 1000;
    if (i % 29 === 5) return { offset, timestamp, value: null, key: "gone" };
    if (i % 31 === 7) return { offset, timestamp, value: '{"id": broken' };
    const id = `${partition}-${i % 17 === 3 ? i - 2 : i}`;
    const lateMs = i % 23 === 11 ? 200_000 : (i * 7919) % 40_000;
    const at = new Date(timestamp - lateMs).toISOString();
    const user = `u${partition}-${(i * 31) % 7}`;
    const value = JSON.stringify({ id, user, page: `/${i % 5}`, cost: (i * 37) % 100, at });
    return i % 3 === 0 ? { offset, timestamp, value } : { offset, timestamp, value, key: user };
  });
}

/** In batches, as the event source cuts them. */
export function batches<T>(records: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(records.length / size) }, (_, i) =>
    records.slice(i * size, (i + 1) * size),
  );
}
