/** A pipeline over each simulator's events, which between them use every window and aggregate. */
import type { Pipeline } from "../../../lib/define/definition.js";
import {
  approxCountDistinct,
  avg,
  count,
  countDistinct,
  decimal,
  double,
  duckdb,
  first,
  int,
  last,
  max,
  min,
  minutes,
  oneOf,
  pipeline,
  quantile,
  seconds,
  session,
  sliding,
  stddev,
  stream,
  string,
  sum,
  timestamp,
  topK,
  tumbling,
  variance,
} from "../../../lib/index.js";
import { LATENESS_MS, type Simulation } from "../../../lib/sources/simulate/simulate.js";

const sinks = [duckdb()];

function sensors(): Pipeline {
  const readings = stream("sensors", {
    schema: {
      reading_id: string(),
      sensor_id: string(),
      site: string(),
      temperature: double()
        .nullable()
        .check((celsius) => celsius.between(-60, 60)),
      humidity: double().nullable(),
      battery: int(),
      status: oneOf("ok", "low_battery", "fault"),
      model: string().at("device.model"),
      event_time: timestamp(),
    },
    key: "sensor_id",
    eventTime: "event_time",
    lateness: LATENESS_MS,
    dedup: "reading_id",
  });
  const tables = {
    by_site: readings
      .groupBy("site")
      .window(tumbling(minutes(1)))
      .aggregate({
        readings: count(),
        faults: count({ where: (e) => e.status.eq("fault") }),
        average: avg("temperature"),
        low: min("temperature"),
        high: max("temperature"),
        spread: variance("temperature"),
        deviation: stddev("humidity"),
        median: quantile("temperature", 0.5),
        sensors: countDistinct("sensor_id"),
        about: approxCountDistinct("sensor_id"),
        models: topK("model", 2),
      }),
    rolling: readings
      .filter((e) => e.temperature.isNotNull())
      .groupBy("site", "model")
      .window(sliding(minutes(5), { every: minutes(1) }))
      .aggregate({ warmth: sum("temperature"), battery: sum("battery"), newest: last("status") }),
    online: readings
      .groupBy("sensor_id")
      .window(session(seconds(45)))
      .aggregate({ readings: count(), begins: first("battery"), ends: last("battery") }),
    clean: readings.select("sensor_id", "temperature", "event_time"),
  };
  return pipeline("sensors", tables, { sinks });
}

function activity(): Pipeline {
  const events = stream("activity", {
    schema: {
      event_id: string(),
      user_id: string(),
      event_type: oneOf("page_view", "click", "purchase"),
      page: string(),
      amount: decimal(9, 2)
        .nullable()
        .check((x) => x.gte(0)),
      os: string().at("device.os"),
      event_time: timestamp(),
    },
    key: "user_id",
    eventTime: "event_time",
    lateness: LATENESS_MS,
    dedup: "event_id",
  });
  const tables = {
    page_view_counts: events
      .filter((e) => e.event_type.eq("page_view"))
      .groupBy("page")
      .window(tumbling(minutes(1)))
      .aggregate({ views: count(), users: countDistinct("user_id") }),
    revenue: events
      .groupBy("os")
      .window(sliding(minutes(7), { every: minutes(2), offset: seconds(30) }))
      .aggregate({
        total: sum("amount"),
        basket: avg("amount"),
        largest: max("amount"),
        high: quantile("amount", 0.9),
        pages: topK("page", 3),
      }),
    active_users: events
      .window(sliding(minutes(5), { every: minutes(1) }))
      .aggregate({ users: countDistinct("user_id"), about: approxCountDistinct("user_id") }),
    sessions: events
      .groupBy("user_id")
      .window(session(minutes(2)))
      .aggregate({ events: count(), pages: countDistinct("page"), left: last("page") }),
  };
  return pipeline("activity", tables, { sinks });
}

function clickstream(): Pipeline {
  const clicks = stream("clickstream", {
    schema: {
      event_id: string(),
      user_id: string(),
      session_id: string(),
      event_type: oneOf("page_view", "click", "purchase"),
      page: string(),
      referrer: string().nullable(),
      browser: string().at("device", "browser"),
      amount: decimal(9, 2).nullable(),
      event_time: timestamp(),
    },
    key: "user_id",
    eventTime: "event_time",
    lateness: seconds(30),
    dedup: { id: "event_id", within: seconds(90) },
  });
  const tables = {
    referrers: clicks
      .groupBy("referrer", "event_type")
      .window(tumbling(seconds(90), { offset: seconds(20) }))
      .aggregate({ n: count(), first_page: first("page"), sessions: countDistinct("session_id") }),
    visits: clicks
      .groupBy("user_id", "session_id")
      .window(session(minutes(1)))
      .aggregate({ events: count(), spent: sum("amount"), entered: first("page") }),
    purchases: clicks
      .filter((e) => e.event_type.eq("purchase"))
      .derive((e) => ({ minute: e.event_time.truncate("minute") }))
      .rows(),
  };
  return pipeline("clickstream", tables, { sinks });
}

export const simulationPipelines: Readonly<Record<Simulation, () => Pipeline>> = {
  sensors,
  activity,
  clickstream,
};
