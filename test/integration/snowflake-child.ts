/** A process that applies a random history to Snowflake, to be killed: `<seed> <count>`. */

import { snowflakeSink } from "../../lib/sinks/snowflake.js";
import { COUNTS, ROWS, randomScript, stream } from "../contract/sinks-script.js";

const [seed, count] = process.argv.slice(2).map(Number);
const { publications } = randomScript(seed, count);
const sink = snowflakeSink({ env: process.env, pipeline: "p", layouts: [COUNTS, ROWS] });
for (let done = await sink.open(); done < publications.length; done += 3) {
  const last = Math.min(publications.length, done + 3);
  await sink.apply(stream(publications.slice(done, last)), last);
}
await sink.close();
