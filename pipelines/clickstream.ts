/**
 * Clicks on a shop's site, as `millpond simulate clickstream` makes them: cleaned events, page
 * views, visits and what they bought. With `--set snowflake=true` the tables are in Snowflake too.
 */
import {
  count,
  countDistinct,
  decimal,
  duckdb,
  first,
  hours,
  lake,
  last,
  minutes,
  oneOf,
  parameter,
  pipeline,
  session,
  snowflake,
  stream,
  string,
  sum,
  timestamp,
  topK,
  tumbling,
} from "millpond";

const clicks = stream("clickstream", {
  schema: {
    event_id: string(),
    user_id: string(),
    session_id: string(),
    event_type: oneOf("page_view", "click", "purchase"),
    page: string(),
    referrer: string().nullable(),
    browser: string().at("device", "browser"),
    os: string().at("device", "os"),
    amount: decimal(9, 2)
      .nullable()
      .check((x) => x.gte(0)),
    event_time: timestamp(),
  },
  key: "user_id",
  eventTime: "event_time",
  lateness: minutes(2),
  dedup: "event_id",
});

const tables = {
  clicks: clicks.rows(),
  page_views: clicks
    .filter((e) => e.event_type.eq("page_view"))
    .groupBy("page")
    .window(tumbling(minutes(1)))
    .aggregate({ views: count(), users: countDistinct("user_id") }),
  visits: clicks
    .groupBy("user_id", "session_id")
    .window(session(minutes(30)))
    .aggregate({
      events: count(),
      entered: first("page"),
      left: last("page"),
      spent: sum("amount"),
    }),
  funnel: clicks.window(tumbling(hours(1))).aggregate({
    visitors: countDistinct("user_id"),
    clickers: countDistinct("user_id", { where: (e) => e.event_type.eq("click") }),
    buyers: countDistinct("user_id", { where: (e) => e.event_type.eq("purchase") }),
    revenue: sum("amount"),
    top_pages: topK("page", 5),
  }),
};

// Raw and processed tables in Snowflake; without an account, in the lake and DuckDB alone.
const toSnowflake = parameter("snowflake", false);
const sinks = [lake(), duckdb(), ...(toSnowflake ? [snowflake({ bronze: true })] : [])];

export default pipeline("clickstream", tables, { sinks });
