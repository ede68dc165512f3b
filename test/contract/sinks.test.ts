/** The sink contract over every sink that runs on a laptop. */
import * as path from "node:path";
import { duckdbSink } from "../../lib/sinks/duckdb.js";
import { lakeSink } from "../../lib/sinks/lake.js";
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
