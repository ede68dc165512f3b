/** A pipeline with a Snowflake sink, to see what is bundled for it. */
import { pipeline, snowflake, stream, string, timestamp } from "millpond";

const clicks = stream("clicks", {
  schema: { page: string(), at: timestamp() },
  eventTime: "at",
  lateness: 0,
});

export default pipeline("to_snowflake", { clicks }, { sinks: [snowflake()] });
