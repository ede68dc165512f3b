/** The sink contract over Snowflake's driver and a stand-in for an account. */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe } from "vitest";
import { snowflakeSink } from "../../lib/sinks/snowflake.js";
import { setUpSnowflake, startSnowflake, type TestSnowflake } from "../servers/snowflake.js";
import { readSnowflake } from "../servers/snowflake-reader.js";
import { describeSink } from "./sinks.js";

const missing = await setUpSnowflake();

const FIRST_MS = Date.parse("0001-01-01T00:00:00Z");
const LAST_MS = Date.parse("9999-12-31T23:59:59.999Z");

describe.skipIf(missing !== null)(
  `in Snowflake${missing === null ? "" : ` (skipped: ${missing})`}`,
  () => {
    let server: TestSnowflake;
    beforeAll(async () => {
      server = await startSnowflake();
    });
    afterAll(() => server?.stop());
    /** A schema of its own for each test's directory. */
    const schema = (dir: string) =>
      `T${createHash("sha256").update(dir).digest("hex").slice(0, 12)}`;

    describeSink({
      name: "snowflake",
      // Years 1 to 9999; beyond, the nearer end.
      stored: ({ kind }, value) =>
        kind === "timestamp" && value !== null
          ? Math.min(Math.max(Number(value), FIRST_MS), LAST_MS)
          : value,
      migrates: true,
      make: (dir, pipeline, layouts) =>
        snowflakeSink({ env: server.env(schema(dir)), pipeline, layouts }),
      readTable: (dir, layout, select) => readSnowflake(server.env(schema(dir)), layout, select),
    });
  },
);
