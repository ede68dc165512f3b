/** What Snowflake's sink does when things go wrong, against the stand-in for an account. */
import { spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { Sink, TableLayout } from "../../lib/sinks/sink.js";
import { snowflakeSink } from "../../lib/sinks/snowflake.js";
import {
  COUNTS,
  column,
  compareRows,
  count,
  EVERY_TYPE,
  ROWS,
  randomOf,
  randomScript,
  Script,
  stream,
} from "../contract/sinks-script.js";
import { setUpSnowflake, startSnowflake, type TestSnowflake } from "../servers/snowflake.js";
import { querySnowflake, readSnowflake, snowflakeStored } from "../servers/snowflake-reader.js";
import { bundleChild } from "./support/bundle-child.js";

const missing = await setUpSnowflake();
const SEED = Math.floor(Math.random() * 1e9);
const TABLES = [COUNTS, ROWS];

describe.skipIf(missing !== null)(
  `the Snowflake sink${missing ? ` (skipped: ${missing})` : ""}`,
  () => {
    let server: TestSnowflake;
    const open = new Set<Sink>();
    let schemas = 0;
    let schema = "";
    let env: Record<string, string> = {};

    beforeAll(async () => {
      server = await startSnowflake();
    });
    afterEach(async () => {
      for (const sink of open) await sink.close();
      open.clear();
      await server.fail(null);
    });
    afterAll(() => server?.stop());

    function newSchema(): void {
      schema = `S${schemas++}`;
      env = server.env(schema);
    }

    function makeSink(
      layouts: readonly TableLayout[] = TABLES,
      more: { env?: Record<string, string>; limits?: { statementMsMax: number } } = {},
    ): Sink {
      const sink = snowflakeSink({ pipeline: "p", layouts, env, ...more });
      open.add(sink);
      return sink;
    }

    async function expectTables(script: Script): Promise<void> {
      await server.fail(null);
      for (const layout of TABLES) {
        const rows = (await readSnowflake(env, layout)).sort(compareRows);
        expect(rows).toEqual(script.expected(layout, snowflakeStored));
      }
    }

    /** From wherever the schema stands to the end, in one session. */
    async function applyAll(sink: Sink, script: Script, step = 100): Promise<void> {
      const { publications } = script;
      for (let done = await sink.open(); done < publications.length; done += step) {
        const last = Math.min(publications.length, done + step);
        await sink.apply(stream(publications.slice(done, last)), last);
      }
    }

    const two = () =>
      new Script()
        .add(ROWS, EVERY_TYPE)
        .add(COUNTS, [count(0, "a", 1, 5), count(0, null, null, 6)])
        .add(COUNTS, [count(0, "a", 1, 7, 1), count(0, null, null, 6, 1, true)]);

    test("goes on after a failure at any statement", async () => {
      const script = two();
      let failures = 0;
      for (let skip = 0; ; skip++) {
        newSchema();
        // That a statement did not run is what failing after the one before looks like.
        await server.fail({ match: "^(?!ROLLBACK)", when: "after", skip });
        // What the first call staged is of other publications than what the second one stages.
        const first = async () => {
          const sink = makeSink();
          await sink.open();
          await sink.apply(stream(script.publications.slice(0, 2)), 2);
        };
        const outcome = await first().catch((error: unknown) => error);
        const failed = await server.hasFailed();
        await server.fail(null);
        if (failed) failures++;
        // Beyond the commit nothing is left to fail: the call looks for itself.
        if (outcome !== undefined) expect(outcome).toMatchObject({ code: "STORAGE" });
        await applyAll(makeSink(), script);
        await expectTables(script);
        if (!failed) break;
      }
      expect(failures).toBeGreaterThan(15);
    });

    test(`killed at random moments, holds each row once (seed ${SEED})`, async () => {
      newSchema();
      const child = path.resolve(".cache", "snowflake-child.mjs");
      await bundleChild("test/integration/snowflake-child.ts", child);
      const publications = 60;
      const run = async (killAfterMs: number) => {
        const args = [child, String(SEED), String(publications)];
        const process = spawn("node", args, {
          stdio: ["ignore", "ignore", "pipe"],
          env: { ...env, PATH: globalThis.process.env.PATH },
        });
        let stderr = "";
        process.stderr.on("data", (data) => {
          stderr += String(data);
        });
        const timer = setTimeout(() => process.kill("SIGKILL"), killAfterMs);
        const [code, signal] = await once(process, "close");
        clearTimeout(timer);
        if (signal !== "SIGKILL") expect(`${code} ${code === 0 ? "" : stderr}`).toBe("0 ");
        return signal === "SIGKILL";
      };
      const random = randomOf(SEED);
      let killed = 0;
      for (let n = 0; n < 6; n++) if (await run(900 + random(900))) killed++;
      expect(killed).toBeGreaterThan(0);
      expect(await run(60_000)).toBe(false);
      await expectTables(randomScript(SEED, publications));
    });

    test(`two at once do no harm (seed ${SEED})`, async () => {
      newSchema();
      const script = randomScript(SEED, 40);
      await makeSink().open();
      let conflicts = 0;
      const work = async (step: number) => {
        for (;;) {
          const sink = makeSink();
          try {
            return await applyAll(sink, script, step);
          } catch (error) {
            // One removes what the other was about to load, or was faster.
            expect(error).toMatchObject({ code: expect.stringMatching(/CONFLICT|STORAGE/) });
            conflicts++;
          } finally {
            await sink.close();
          }
        }
      };
      await Promise.all([work(3), work(5)]);
      expect(conflicts).toBeGreaterThan(0);
      await expectTables(script);
    });

    test("what was loaded before is not loaded again, unless it is gone", async () => {
      newSchema();
      const script = two();
      const attempt = async () => {
        const sink = makeSink();
        await sink.open();
        await sink.apply(stream(script.publications), 3);
      };
      await server.fail({ match: "^BEGIN", when: "before" });
      await expect(attempt()).rejects.toMatchObject({ code: "STORAGE" });
      await server.fail({ match: "^BEGIN", when: "before" });
      await expect(attempt()).rejects.toMatchObject({ code: "STORAGE" });
      // Loaded before: nothing is deleted from a staging table, and nothing is forced.
      expect((await server.log()).filter((sql) => /^DELETE|FORCE/.test(sql))).toEqual([]);
      await querySnowflake(env, 'DELETE FROM "MILLPOND_STAGE_EVENTS"');
      await server.fail(null);
      await attempt();
      expect((await server.log()).filter((sql) => /FORCE/.test(sql))).toHaveLength(2);
      await expectTables(script);
    });

    test("leaves no staged rows and no files behind", async () => {
      newSchema();
      await applyAll(makeSink(), two());
      for (const table of ["MILLPOND_STAGE_EVENTS", "MILLPOND_STAGE_SELECT"]) {
        expect(await querySnowflake(env, `SELECT COUNT(*) FROM "${table}"`)).toEqual([["0"]]);
      }
      expect(await querySnowflake(env, "LIST @MILLPOND_FILES")).toEqual([]);
    });

    test("is held up while Snowflake is down, and catches up after", async () => {
      newSchema();
      const script = two();
      const sink = makeSink(TABLES, { limits: { statementMsMax: 1_500 } });
      await sink.open();
      await server.fail({ match: "COPY", when: "down" });
      await expect(sink.apply(stream(script.publications), 3)).rejects.toMatchObject({
        code: "STORAGE",
        message: expect.stringMatching(/COPY INTO .* did not answer in 1500 ms/),
      });
      await sink.close();
      await server.fail(null);
      await applyAll(sink, script);
      await expectTables(script);
    });

    test("opens a session anew that has ended", async () => {
      newSchema();
      const sink = makeSink();
      await sink.open();
      const script = two();
      await sink.apply(stream(script.publications), 3);
      await server.fail({ match: "^SELECT ID", when: "before" });
      expect(await sink.open()).toBe(3);
      expect((await server.log()).filter((sql) => /^ALTER SESSION/.test(sql))).toHaveLength(1);
    });

    test("adds columns that may be null, and refuses a table of somebody else's", async () => {
      newSchema();
      await applyAll(makeSink(), two());
      const wider = { ...ROWS, columns: [...ROWS.columns, column("more", "timestamp", true)] };
      const script = new Script().add(wider, [[...EVERY_TYPE[0], "clicks", 0, 0n, 1_000]]);
      const after = makeSink([COUNTS, wider]);
      expect(await after.open()).toBe(3);
      const [publication] = script.publications;
      await after.apply(stream([{ ...publication, sequence: 4 }]), 4);
      const counted = "SELECT COUNT(*), COUNT(MORE), MIN(MORE)::VARCHAR FROM EVENTS";
      expect(await querySnowflake(env, counted)).toEqual([
        ["8", "1", expect.stringMatching(/^1970-01-01 00:00:01/)],
      ]);
      newSchema();
      await querySnowflake(env, "CREATE TABLE EVENTS (A NUMBER(38,0))");
      await expect(makeSink().open()).rejects.toMatchObject({
        code: "OUTPUT",
        message: expect.stringMatching(/"EVENTS" that Millpond did not make/),
      });
    });

    test("tells nothing of the key when the login fails", async () => {
      newSchema();
      const { privateKey } = generateKeyPairSync("rsa", {
        modulusLength: 2048,
        publicKeyEncoding: { type: "spki", format: "pem" },
        privateKeyEncoding: { type: "pkcs8", format: "pem" },
      });
      const written = vi.spyOn(process.stdout, "write").mockReturnValue(true);
      const warned = vi.spyOn(process.stderr, "write").mockReturnValue(true);
      const { SNOWFLAKE_PRIVATE_KEY_PATH: _, ...others } = env;
      const wrong = { ...others, SNOWFLAKE_PRIVATE_KEY: privateKey.replaceAll("\n", "\\n") };
      const error: unknown = await makeSink(TABLES, { env: wrong })
        .open()
        .catch((failure: unknown) => failure);
      const said = [...written.mock.calls, ...warned.mock.calls].join("\n");
      vi.restoreAllMocks();
      expect(error).toMatchObject({
        code: "STORAGE",
        message: expect.stringMatching(/390144.*JWT token is invalid.*SNOWFLAKE_USER/),
      });
      const told = `${said}\n${JSON.stringify(error, Object.getOwnPropertyNames(error))}`;
      expect(told).not.toMatch(/PRIVATE KEY|eyJ/);
      for (const line of privateKey.split("\n").slice(1, -2)) expect(told).not.toContain(line);
      expect(fs.existsSync("snowflake.log")).toBe(false);
    });

    test("takes an encrypted key, and says what is wrong with one that it can't read", async () => {
      newSchema();
      const { createPrivateKey } = await import("node:crypto");
      const key = createPrivateKey(fs.readFileSync(env.SNOWFLAKE_PRIVATE_KEY_PATH ?? ""));
      const pem = key.export({
        type: "pkcs8",
        format: "pem",
        cipher: "aes-256-cbc",
        passphrase: "pond",
      });
      const encrypted = { ...env, SNOWFLAKE_PRIVATE_KEY: String(pem) };
      await expect(makeSink(TABLES, { env: encrypted }).open()).rejects.toMatchObject({
        code: "USAGE",
        message: expect.stringMatching(/^SNOWFLAKE_PRIVATE_KEY holds no private key.*PASSPHRASE/),
      });
      const complete = { ...encrypted, SNOWFLAKE_PRIVATE_KEY_PASSPHRASE: "pond" };
      expect(await makeSink(TABLES, { env: complete }).open()).toBe(0);
      const { SNOWFLAKE_ACCOUNT: _, ...rest } = env;
      await expect(makeSink(TABLES, { env: rest }).open()).rejects.toMatchObject({
        code: "USAGE",
        message: expect.stringMatching(/needs SNOWFLAKE_ACCOUNT/),
      });
    });
  },
);
