/** A process with the sink's handler, to be killed: it says when it begins, and runs until then. */
import { makeSink } from "../../../lib/handlers/sink.js";
import { clicksPipeline } from "../../unit/handlers/clicks.js";

const context = { getRemainingTimeInMillis: () => 60_000 };
const sink = makeSink({ pipeline: clicksPipeline(), write: () => undefined });
process.stdout.write("begins\n");
for (let n = 0; ; n++) await sink({ flush: n % 5 === 4 }, context);
