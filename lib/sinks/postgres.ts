/** The postgres sink. */
import { MillpondError } from "../errors.js";
import type { Sink, TableLayout } from "./sink.js";

export interface PostgresSinkOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly pipeline: string;
  readonly schema: string;
  readonly layouts: readonly TableLayout[];
}

export function postgresSink(_options: PostgresSinkOptions): Sink {
  throw new MillpondError("USAGE", "the postgres sink is not there yet");
}
