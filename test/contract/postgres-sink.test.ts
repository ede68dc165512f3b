/**
 * The sink contract over a real PostgreSQL, whose tables psql reads.
 */
import { afterAll, beforeAll, describe } from "vitest";
import { postgresSink } from "../../lib/sinks/postgres.js";
import { setUpPostgres, startPostgres, type TestPostgres } from "../servers/postgres.js";
import { readPostgres, storedInPostgres } from "./postgres-reader.js";
import { describeSink } from "./sinks.js";

const missing = await setUpPostgres();

describe.skipIf(missing !== null)(`PostgreSQL${missing === null ? "" : ` (${missing})`}`, () => {
  let server: TestPostgres;

  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server?.stop());

  /** A schema a test, with a name that needs care. */
  const schemaOf = (dir: string) => `it's "${dir.slice(-6)}"`;

  describeSink({
    name: "postgres",
    make: (dir, pipeline, layouts) =>
      postgresSink({ env: server.env, pipeline, schema: schemaOf(dir), layouts }),
    readTable: (dir, layout, select) => readPostgres(server.env, schemaOf(dir), layout, select),
    stored: storedInPostgres,
    migrates: true,
    takesTurns: true,
  });
});
