// A pipeline over `millpond simulate activity` with every kind of table.
import {
  avg,
  count,
  countDistinct,
  double,
  minutes,
  oneOf,
  parameter,
  pipeline,
  quantile,
  session,
  sliding,
  stream,
  string,
  sum,
  timestamp,
  topK,
  tumbling,
} from "millpond";

const gapMinutes = parameter("gap_minutes", 2);

const activity = stream("activity", {
  schema: {
    event_id: string(),
    user_id: string(),
    event_type: oneOf("page_view", "click", "purchase"),
    page: string(),
    amount: double()
      .nullable()
      .check((x) => x.gte(0)),
    os: string().at("device.os"),
    event_time: timestamp(),
  },
  key: "user_id",
  eventTime: "event_time",
  lateness: minutes(2),
  dedup: "event_id",
});

export default pipeline("activity", {
  pages: activity
    .groupBy("page")
    .window(tumbling(minutes(1)))
    .aggregate({
      views: count(),
      users: countDistinct("user_id"),
      revenue: sum("amount"),
      mean: avg("amount"),
      p90: quantile("amount", 0.9),
      systems: topK("os", 2),
    }),
  rolling: activity
    .window(sliding(minutes(5), { every: minutes(1) }))
    .aggregate({ events: count(), users: countDistinct("user_id") }),
  visits: activity
    .groupBy("user_id")
    .window(session(minutes(gapMinutes)))
    .aggregate({ events: count(), spent: sum("amount") }),
  purchases: activity.filter((e) => e.event_type.eq("purchase")),
});
