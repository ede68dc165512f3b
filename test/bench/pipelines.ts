/** The benchmark's pipelines: the workloads of the peer benchmark, written with the public API. */
import {
  count,
  countDistinct,
  decimal,
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
} from "../../lib/index.js";

export const WORKLOADS = ["tumbling", "sessions", "dedup+tumbling"] as const;
export type Workload = (typeof WORKLOADS)[number] | "counts";

/** Which answers of the peer benchmark a workload must give. */
export const REFERENCE = {
  tumbling: "w1",
  counts: "w1",
  sessions: "w3",
  "dedup+tumbling": "w4",
} as const;

/** The columns of `counts`, which is `tumbling` without sums and distinct users. */
export const COUNTS = ["window_start", "event_type", "page", "cnt", "pv"];

function events(dedup: boolean) {
  return stream("events", {
    schema: {
      event_id: string(),
      user_id: string(),
      event_type: string(),
      page: string(),
      amount: decimal(12, 2).nullable(),
      event_time: timestamp(),
    },
    key: "user_id",
    eventTime: "event_time",
    lateness: minutes(2),
    ...(dedup ? { dedup: "event_id" as const } : {}),
  });
}

export function benchPipeline(workload: Workload, bronze: boolean): Pipeline {
  const sinks = [lake({ bronze }), duckdb()];
  if (workload === "sessions") {
    const sessions = events(false)
      .groupBy("user_id")
      .window(session(minutes(5)))
      .aggregate({ n: count(), pages: countDistinct("page") });
    return pipeline("bench", { results: sessions }, { sinks });
  }
  const windows = events(workload === "dedup+tumbling")
    .groupBy("event_type", "page")
    .window(tumbling(minutes(1)));
  if (workload === "counts") {
    const counts = windows.aggregate({
      cnt: count(),
      pv: count({ where: (event) => event.event_type.eq("page_view") }),
    });
    return pipeline("bench", { results: counts }, { sinks });
  }
  const results = windows.aggregate({
    cnt: count(),
    pv: count({ where: (event) => event.event_type.eq("page_view") }),
    sum_amount: sum("amount"),
    users: countDistinct("user_id"),
  });
  return pipeline("bench", { results }, { sinks });
}
