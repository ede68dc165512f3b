/**
 * Applies a random history to PostgreSQL, to be killed: `<schema> <seed> <count>`. Prints a dot for
 * each step.
 */
import { postgresSink } from "../../../lib/sinks/postgres.js";
import { COUNTS, ROWS, randomScript, stream } from "../../contract/sinks-script.js";

const [schema = "", seed, count] = process.argv.slice(2);
const { publications } = randomScript(Number(seed), Number(count));
const sink = postgresSink({ env: process.env, pipeline: "p", schema, layouts: [COUNTS, ROWS] });
for (let done = await sink.open(); done < publications.length; done += 3) {
  const last = Math.min(publications.length, done + 3);
  await sink.apply(stream(publications.slice(done, last)), last);
  process.stdout.write(".");
}
await sink.close();
