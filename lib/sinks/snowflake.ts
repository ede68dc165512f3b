/** The snowflake sink. */
import { MillpondError } from "../errors.js";
import type { Sink, TableLayout } from "./sink.js";

export interface SnowflakeSinkOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly pipeline: string;
  readonly layouts: readonly TableLayout[];
}

export function snowflakeSink(_options: SnowflakeSinkOptions): Sink {
  throw new MillpondError("USAGE", "the snowflake sink is not there yet");
}
