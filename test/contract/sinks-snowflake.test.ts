/** The sink contract over Snowflake's driver and a stand-in for an account. */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe } from "vitest";
import { snowflakeSink } from "../../lib/sinks/snowflake.js";
import { setUpSnowflake, startSnowflake, type TestSnowflake } from "../servers/snowflake.js";
import { readSnowflake, snowflakeStored } from "../servers/snowflake-reader.js";
import { describeSink } from "./sinks.js";

const missing = await setUpSnowflake();

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
      stored: snowflakeStored,
      migrates: true,
      takesTurns: true,
      make: (dir, pipeline, layouts) =>
        snowflakeSink({ env: server.env(schema(dir)), pipeline, layouts }),
      readTable: (dir, layout, select) => readSnowflake(server.env(schema(dir)), layout, select),
    });
  },
);
