/** A pipeline with a user function, whose source is part of its definition's hash. */
import { count, minutes, pipeline, stream, string, timestamp, tumbling } from "millpond";

/** A name that the library has too: bundling both into one file would rename it. */
const pairs = (text: string): string => text.trim().toLowerCase();

const clicks = stream("clicks", {
  schema: { id: string(), page: string(), event_time: timestamp() },
  eventTime: "event_time",
  lateness: minutes(1),
});

export default pipeline("mapped", {
  pages: clicks
    .map("normal", (row) => ({ page: pairs(row.page), at: row.event_time }), {
      page: string(),
      at: timestamp(),
    })
    .select("page"),
  counts: clicks
    .groupBy("page")
    .window(tumbling(minutes(1)))
    .aggregate({ n: count() }),
});
