/**
 * A process that applies a random history to the sinks, to be killed: `<dir> <seed> <count>` for
 * lake and database, and `<bucket>` for a lake on S3.
 */
import * as path from "node:path";
import { duckdbSink } from "../../lib/sinks/duckdb.js";
import { lakeSink } from "../../lib/sinks/lake.js";
import { S3LakeStorage } from "../../lib/sinks/s3-lake-storage.js";
import type { Sink } from "../../lib/sinks/sink.js";
import { S3Bucket } from "../../lib/stores/s3.js";
import { LAYOUTS, randomScript, stream } from "./sinks-script.js";

const [dir, seed, count, bucket] = process.argv.slice(2);
const { publications } = randomScript(Number(seed), Number(count));
const options = { dir, pipeline: "p", layouts: LAYOUTS };
const sinks: Sink[] = [];
if (bucket === undefined) {
  sinks.push(lakeSink(options));
  sinks.push(duckdbSink({ ...options, file: path.join(dir, "results.duckdb") }));
} else {
  const prefix = `lake/${path.basename(dir)}/`;
  const storage = new S3LakeStorage(new S3Bucket(bucket), prefix, path.join(dir, "tmp"));
  sinks.push(lakeSink({ ...options, storage }));
}
for (const sink of sinks) {
  for (let done = await sink.open(); done < publications.length; done += 3) {
    const last = Math.min(publications.length, done + 3);
    await sink.apply(stream(publications.slice(done, last)), last);
  }
  await sink.close();
}
