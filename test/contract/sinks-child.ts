/** A process that applies a random history to both sinks, to be killed: `<dir> <seed> <count>`. */
import * as path from "node:path";
import { duckdbSink } from "../../lib/sinks/duckdb.js";
import { lakeSink } from "../../lib/sinks/lake.js";
import { LAYOUTS, randomScript, stream } from "./sinks-script.js";

const [dir, seed, count] = process.argv.slice(2);
const { publications } = randomScript(Number(seed), Number(count));
const sinks = [
  lakeSink({ dir, pipeline: "p", layouts: LAYOUTS }),
  duckdbSink({ file: path.join(dir, "results.duckdb"), pipeline: "p", layouts: LAYOUTS }),
];
for (const sink of sinks) {
  for (let done = await sink.open(); done < publications.length; done += 3) {
    const last = Math.min(publications.length, done + 3);
    await sink.apply(stream(publications.slice(done, last)), last);
  }
  await sink.close();
}
