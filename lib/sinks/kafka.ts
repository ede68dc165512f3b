/** The kafka sink. */
import { MillpondError } from "../errors.js";
import type { Sink, TableLayout } from "./sink.js";

export interface KafkaSinkOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly pipeline: string;
  readonly topic: string;
  readonly layout: TableLayout;
}

export function kafkaSink(_options: KafkaSinkOptions): Sink {
  throw new MillpondError("USAGE", "the kafka sink is not there yet");
}
