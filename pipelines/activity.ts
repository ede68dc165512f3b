/** What people do on a site, as `millpond simulate activity` and the producer make it. */
import {
  count,
  countDistinct,
  double,
  hours,
  minutes,
  oneOf,
  pipeline,
  session,
  sliding,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
} from "millpond";

const activity = stream("user_activity", {
  schema: {
    event_id: string(),
    user_id: string(),
    page: string(),
    event_type: oneOf("page_view", "click", "purchase"),
    amount: double()
      .nullable()
      .check((x) => x.gte(0)),
    event_time: timestamp(),
  },
  key: "user_id",
  eventTime: "event_time",
  lateness: minutes(2),
  dedup: "event_id",
});

export default pipeline("activity", {
  page_views: activity
    .filter((e) => e.event_type.eq("page_view"))
    .groupBy("page")
    .window(tumbling(minutes(1)))
    .aggregate({ views: count(), users: countDistinct("user_id") }),
  revenue: activity
    .window(sliding(hours(1), { every: minutes(5) }))
    .aggregate({ total: sum("amount") }),
  user_sessions: activity
    .groupBy("user_id")
    .window(session(minutes(30)))
    .aggregate({ events: count() }),
  purchases: activity.filter((e) => e.event_type.eq("purchase")),
});
