/**
 * What people do on a site, as `millpond simulate activity` and the producer make it: views by
 * page, active users, visits, and the events themselves, enriched. With `--set servers=true` tables
 * are in PostgreSQL too, live, and enriched events in the Kafka topic `enriched_activity`.
 */
import {
  count,
  countDistinct,
  double,
  duckdb,
  final,
  kafka,
  lake,
  minutes,
  oneOf,
  parameter,
  pipeline,
  postgres,
  reference,
  seconds,
  session,
  sliding,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
  updates,
} from "millpond";

const servers = parameter("servers", false);
/** Open windows are shown as they grow where a dashboard looks at them. */
const emit = servers ? updates({ every: seconds(5) }) : final();

const activity = stream("user_activity", {
  schema: {
    event_id: string(),
    user_id: string(),
    page: string(),
    event_type: oneOf("page_view", "click", "purchase"),
    amount: double()
      .nullable()
      .check((x) => x.gte(0)),
    os: string().at("device.os").default("unknown"),
    event_time: timestamp(),
  },
  key: "user_id",
  eventTime: "event_time",
  lateness: minutes(2),
  dedup: "event_id",
});

const platforms = reference("platforms", {
  file: "platforms.csv",
  schema: { os: string(), platform: string() },
});

const tables = {
  page_view_counts: activity
    .filter((e) => e.event_type.eq("page_view"))
    .groupBy("page")
    .window(tumbling(minutes(1)))
    .aggregate({ views: count(), users: countDistinct("user_id") })
    .emit(emit),
  active_users: activity
    .window(sliding(minutes(5), { every: minutes(1) }))
    .aggregate({ users: countDistinct("user_id") })
    .emit(emit),
  // Its duration is session_end - session_start.
  user_sessions: activity
    .groupBy("user_id")
    .window(session(minutes(30)))
    .aggregate({ events: count(), pages: countDistinct("page"), spent: sum("amount") }),
  enriched_activity: activity
    .enrich(platforms, { on: "os", select: ["platform"], join: "left" })
    .derive((e) => ({
      is_purchase: e.event_type.eq("purchase"),
      hour: e.event_time.extract("hour"),
    })),
};

export default pipeline("activity", tables, {
  sinks: servers
    ? [
        lake(),
        duckdb(),
        postgres({ tables: ["page_view_counts", "active_users", "user_sessions"] }),
        kafka({ table: "enriched_activity", topic: "enriched_activity" }),
      ]
    : [lake(), duckdb()],
});
