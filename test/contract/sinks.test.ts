/** The sink contract over the lake, wherever it lies, and the DuckDB database. */
import * as path from "node:path";
import { afterAll, beforeAll, describe } from "vitest";
import { duckdbSink } from "../../lib/sinks/duckdb.js";
import { lakeSink } from "../../lib/sinks/lake.js";
import { s3Place } from "./lake-places.js";
import { describeSink } from "./sinks.js";
import { readDatabase, readLake } from "./sinks-readers.js";

describeSink({
  name: "lake",
  make: (dir, pipeline, layouts) => lakeSink({ dir, pipeline, layouts }),
  readTable: readLake,
});

describeSink({
  name: "duckdb",
  make: (dir, pipeline, layouts) =>
    duckdbSink({ file: path.join(dir, "results.duckdb"), pipeline, layouts }),
  readTable: (dir, layout, select) =>
    readDatabase(path.join(dir, "results.duckdb"), layout, select),
});

const bucket = await s3Place();
const { missing } = bucket;

describe.skipIf(missing !== null)(
  `in S3${missing === null ? "" : ` (skipped: ${missing})`}`,
  () => {
    beforeAll(() => bucket.start());
    afterAll(() => bucket.stop());

    describeSink({
      name: "lake on S3",
      make: (dir, pipeline, layouts) =>
        lakeSink({ dir, pipeline, layouts, storage: bucket.storage(dir) }),
      readTable: async (dir, layout, select) => readLake(await bucket.copy(dir), layout, select),
    });
  },
);
