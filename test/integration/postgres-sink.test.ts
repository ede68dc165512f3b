/**
 * What is the PostgreSQL sink's own: migration, refusals, keys that only just differ; and that
 * killed processes, cut connections and a crashed server leave each row once.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectTo, createServer, type Server, type Socket } from "node:net";
import * as path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runChecks } from "../../lib/cli/doctor-checks.js";
import type { ColumnNode } from "../../lib/define/definition.js";
import {
  minutes,
  pipeline,
  postgres,
  stream as streamOf,
  string,
  timestamp,
} from "../../lib/index.js";
import { postgresSink } from "../../lib/sinks/postgres.js";
import type { Sink, TableLayout } from "../../lib/sinks/sink.js";
import { readPostgres, storedInPostgres } from "../contract/postgres-reader.js";
import {
  COUNTS,
  column,
  compareRows,
  count,
  ROWS,
  randomOf,
  randomScript,
  Script,
  stream,
} from "../contract/sinks-script.js";
import { setUpPostgres, startPostgres, type TestPostgres } from "../servers/postgres.js";
import { bundleChild } from "./support/bundle-child.js";

const missing = await setUpPostgres();
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const PUBLICATIONS = 200;
const CHILD = path.resolve(".cache", "postgres-sink-child.mjs");

describe.skipIf(missing !== null)(
  `PostgreSQL sink${missing === null ? "" : ` (${missing})`}`,
  () => {
    let server: TestPostgres;
    let schemas = 0;

    beforeAll(async () => {
      server = await startPostgres();
    });
    afterAll(() => server?.stop());

    const newSchema = () => `own_${++schemas}`;
    const sinkOf = (
      schema: string,
      layouts: readonly TableLayout[] = [COUNTS, ROWS],
      env = server.env,
    ) => postgresSink({ env, pipeline: "p", schema, layouts });
    const withColumns = (columns: readonly ColumnNode[]): TableLayout => ({ ...COUNTS, columns });

    async function opened(sink: Sink): Promise<number> {
      const taken = await sink.open();
      await sink.close();
      return taken;
    }

    async function expectHistory(schema: string, script: Script): Promise<void> {
      for (const layout of [COUNTS, ROWS]) {
        const rows = (await readPostgres(server.env, schema, layout)).sort(compareRows);
        expect(rows).toEqual(script.expected(layout, storedInPostgres));
      }
    }

    /** As the sinks' handler does: what fails is tried again, from what the server has. */
    async function applyAll(sink: Sink, script: Script): Promise<number> {
      const { publications } = script;
      for (let failures = 0; ; failures++) {
        try {
          for (let done = await sink.open(); done < publications.length; done += 3) {
            const last = Math.min(publications.length, done + 3);
            await sink.apply(stream(publications.slice(done, last)), last);
          }
          return failures;
        } catch (error) {
          expect(error).toMatchObject({ code: "STORAGE" });
          await sink.close();
          await delay(20);
        }
      }
    }

    test("adds columns, widens types, and keeps the rows that are there", async () => {
      const schema = newSchema();
      const sink = sinkOf(schema, [COUNTS]);
      await sink.open();
      await sink.apply(stream(new Script().add(COUNTS, [count(0, "a", 1, 5)]).publications), 1);
      await sink.close();
      const columns = COUNTS.columns.map((node) =>
        node.name === "Order" ? column("Order", "bigint", true) : node,
      );
      const wider = withColumns([
        ...columns.slice(0, -1),
        { name: "sum", type: { kind: "decimal", precision: 9, scale: 2 }, nullable: false },
        ...columns.slice(-1),
      ]);
      expect(await opened(sinkOf(schema, [wider]))).toBe(1);
      const rows = await readPostgres(server.env, schema, wider);
      expect(rows.map((row) => row.slice(2))).toEqual([["a", "1", "5", null, "0"]]);
      const sum = {
        ...wider.columns[5]!,
        type: { kind: "decimal", precision: 18, scale: 4 },
      } as const;
      const widest = withColumns(wider.columns.map((node) => (node.name === "sum" ? sum : node)));
      expect(await opened(sinkOf(schema, [widest]))).toBe(1);
      // What the pipeline lost stays, and takes no part.
      const fewer = withColumns(widest.columns.filter(({ name }) => name !== "count"));
      expect(await opened(sinkOf(schema, [fewer]))).toBe(1);
    });

    test("refuses what cannot be migrated, with what to do", async () => {
      const schema = newSchema();
      await opened(sinkOf(schema, [COUNTS]));
      const refusal = async (layout: TableLayout, message: RegExp) =>
        expect(opened(sinkOf(schema, [layout]))).rejects.toMatchObject({
          code: "OUTPUT",
          message: expect.stringMatching(message),
        });
      const narrower = COUNTS.columns.map((node) =>
        node.name === "count" ? column("count", "int") : node,
      );
      await refusal(withColumns(narrower), /"count" of type bigint.*is integer.*another schema/);
      await refusal({ ...COUNTS, key: ["window_start", "group"] }, /the key .*but the pipeline's/);
      const long = { ...COUNTS, name: "x".repeat(64) };
      await expect(opened(sinkOf(schema, [long]))).rejects.toMatchObject({ code: "DEFINITION" });
    });

    test("refuses tables of others, removed ones, and databases that it cannot use", async () => {
      const schema = newSchema();
      await server.query(`CREATE SCHEMA ${schema}; CREATE VIEW ${schema}."select" AS SELECT 1`);
      await expect(opened(sinkOf(schema))).rejects.toThrow(/"select" that Millpond did not make/);
      const other = newSchema();
      await opened(sinkOf(other));
      await server.query(`DROP TABLE ${other}.events`);
      await expect(opened(sinkOf(other))).rejects.toThrow(/"events" was removed/);
      await server.query(
        "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0",
      );
      const ascii = { ...server.env, PGDATABASE: "ascii" };
      await expect(opened(sinkOf("s", [COUNTS], ascii))).rejects.toThrow(/SQL_ASCII.*'UTF8'/);
      await server.query("CREATE ROLE nobody LOGIN");
      const nobody = { ...server.env, PGUSER: "nobody" };
      await expect(opened(sinkOf("public", [COUNTS], nobody))).rejects.toMatchObject({
        code: "OUTPUT",
        message: expect.stringMatching(/permission denied.*grant/),
      });
      const absent = { ...server.env, PGDATABASE: "absent" };
      await expect(opened(sinkOf("s", [COUNTS], absent))).rejects.toMatchObject({ code: "USAGE" });
    });

    test("alters nothing of another output's", async () => {
      const schema = newSchema();
      const first = sinkOf(schema, [COUNTS]);
      await first.open("first");
      await first.apply(stream([]), 1);
      await first.close();
      const columns = async () => {
        const { rows } = await server.query(
          `SELECT table_name, column_name FROM information_schema.columns
            WHERE table_schema = '${schema}' ORDER BY 1, 2`,
        );
        return rows;
      };
      const before = await columns();
      const wider = withColumns([...COUNTS.columns, column("sum", "bigint", true)]);
      const second = sinkOf(schema, [wider, ROWS]);
      await expect(second.open("second")).rejects.toMatchObject({
        code: "OUTPUT",
        message: expect.stringContaining("holds the results of another output"),
      });
      expect(await columns()).toEqual(before);
    });

    test("keeps keys apart that only a NUL tells apart; says when one is too long", async () => {
      const schema = newSchema();
      const groups = ["a\0", "a␀0", "a␀", "a", null];
      const script = new Script().add(
        COUNTS,
        groups.map((group) => count(0, group, 1, 1)),
      );
      const sink = sinkOf(schema);
      await sink.open();
      await sink.apply(stream(script.publications), 1);
      await expectHistory(schema, script);
      const random = randomOf(SEED);
      const long = Array.from({ length: 9_000 }, () => String.fromCharCode(32 + random(90))).join(
        "",
      );
      const tooLong = new Script().add(COUNTS, []).add(COUNTS, [count(0, long, 1, 1)]);
      await expect(sink.apply(stream(tooLong.publications), 2)).rejects.toMatchObject({
        code: "LIMIT",
        message: expect.stringMatching(/2,700 bytes/),
      });
      await sink.close();
    });

    test(`processes killed at random moments leave each row once (seed ${SEED})`, async () => {
      await bundleChild("test/integration/support/postgres-sink-child.ts", CHILD);
      const schema = newSchema();
      const random = randomOf(SEED);
      let killed = 0;
      for (let rounds = 0; ; rounds++) {
        const args = [CHILD, schema, String(SEED), String(PUBLICATIONS)];
        // Two at once; the first ones do not get far.
        const children = [0, 1].map(() =>
          spawn(process.execPath, args, {
            env: { ...process.env, ...server.env },
            stdio: ["ignore", "pipe", "inherit"],
          }),
        );
        const ends = children.map((child) => once(child, "close"));
        if (rounds < 6) {
          const stepsMax = 1 + random(6);
          let steps = 0;
          for (const { stdout } of children) {
            stdout.on("data", (dots: Buffer) => {
              steps += dots.length;
              if (steps < stepsMax) return;
              setTimeout(() => children.map((child) => child.kill("SIGKILL")), random(8));
            });
          }
        } else for (const { stdout } of children) stdout.resume();
        const ended = await Promise.all(ends);
        killed += ended.filter(([, signal]) => signal === "SIGKILL").length;
        if (ended.some(([code]) => code === 0)) break;
      }
      expect(killed).toBeGreaterThan(0);
      await expectHistory(schema, randomScript(SEED, PUBLICATIONS));
    });

    test(`cut connections and the server's crash change nothing (seed ${SEED})`, async () => {
      const schema = newSchema();
      const random = randomOf(SEED);
      const script = randomScript(SEED, PUBLICATIONS);
      const sink = sinkOf(schema);
      let isDone = false;
      const cutting = (async () => {
        for (let cuts = 0; !isDone; cuts++) {
          await delay(random(60));
          if (cuts === 5) {
            await server.kill();
            await server.start();
          }
          await server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = " +
              "'millpond p'",
          );
          if (cuts === 15) break;
        }
      })();
      const failures = await applyAll(sink, script);
      isDone = true;
      await cutting;
      expect(failures).toBeGreaterThan(0);
      await sink.close();
      await expectHistory(schema, script);
    });

    test("a commit whose answer is lost is found out", async () => {
      const schema = newSchema();
      const script = randomScript(SEED, 6);
      const proxy = await CommitCutter.start(server.port);
      const sink = sinkOf(schema, [COUNTS, ROWS], { ...server.env, PGPORT: String(proxy.port) });
      await sink.open();
      proxy.cutsNextCommit = true;
      await sink.apply(stream(script.publications.slice(0, 3)), 3);
      expect(proxy.cutsNextCommit).toBe(false);
      await sink.apply(stream(script.publications), 6);
      await sink.close();
      await proxy.stop();
      await expectHistory(schema, script);
    });

    test("millpond doctor tells what a pipeline would meet, and no password", async () => {
      const events = streamOf("clicks", {
        schema: { id: string(), at: timestamp() },
        eventTime: "at",
        lateness: minutes(1),
      });
      const subject = pipeline("doctored", { all: events.rows() }, { sinks: [postgres()] });
      const env = { ...server.env, PGPASSWORD: "hunter2" };
      const check = async (more: Record<string, string>) => {
        const results = await runChecks({ env: { ...env, ...more }, out: ".", pipeline: subject });
        expect(JSON.stringify(results)).not.toContain("hunter2");
        return results.map(({ check, status }) => `${check} ${status}`);
      };
      const machine = ["node ok", "duckdb ok", "disk ok", "kafka warn"];
      expect(await check({})).toEqual([...machine, "postgres ok", "clock ok", "schema ok"]);
      expect(await check({ PGUSER: "nobody" })).toContain("schema fail");
      const broken = { PGPORT: "1", MILLPOND_BOOTSTRAP: "127.0.0.1:1" };
      expect(await check(broken)).toEqual(expect.arrayContaining(["kafka fail", "postgres fail"]));
      const lacksFile = "postgresql://me:hunter2@127.0.0.1:1/x?sslrootcert=/nowhere/ca.pem";
      expect(await check({ DATABASE_URL: lacksFile })).toContain("postgres fail");
      const url = { DATABASE_URL: "postgresql://me:hunter2@127.0.0.1:1/x" };
      expect(await check(url)).toContain("postgres fail");
      expect(await check({ DATABASE_URL: "postgresql://me:hunter2@[broken" })).toContain(
        "postgres fail",
      );
    });
  },
);

/** Passes everything on, but for the answer to one COMMIT: then it hangs up. */
class CommitCutter {
  cutsNextCommit = false;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(target: number): Promise<CommitCutter> {
    const server = createServer();
    const cutter = new CommitCutter(server);
    server.on("connection", (client) => cutter.#connect(client, target));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return cutter;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  async stop(): Promise<void> {
    this.#server.close();
    await once(this.#server, "close");
  }

  #connect(client: Socket, target: number): void {
    const upstream = connectTo(target, "127.0.0.1");
    let isCut = false;
    client.on("data", (data) => {
      if (this.cutsNextCommit && data.includes("COMMIT\0")) {
        this.cutsNextCommit = false;
        isCut = true;
      }
      upstream.write(data);
    });
    upstream.on("data", (data) => {
      if (isCut) client.destroy();
      else client.write(data);
    });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on("error", () => undefined);
      one.on("close", () => other.destroy());
    }
  }
}
