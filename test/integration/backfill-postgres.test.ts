/**
 * A backfill of tables in PostgreSQL: they are replaced in one transaction, for readers who keep
 * their privileges; cut off between any two steps, it is found and undone or ended by the next.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { backfill } from "../../lib/audit/backfill.js";
import type { Pipeline } from "../../lib/define/definition.js";
import {
  count,
  duckdb,
  kafka,
  lake,
  pipeline,
  postgres,
  seconds,
  snowflake,
  stream,
  string,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { outputPaths } from "../../lib/runtime/output.js";
import { readRows } from "../reference/rows.js";
import { setUpPostgres, startPostgres, type TestPostgres } from "../servers/postgres.js";
import { Workspace, withResults } from "./support/check.js";

const missing = await setUpPostgres();
const clicks = stream("clicks", {
  schema: { page: string(), at: timestamp({ format: "epoch_s" }) },
  eventTime: "at",
  lateness: seconds(2),
});
const tumble = (s: number) =>
  clicks
    .groupBy("page")
    .window(tumbling(seconds(s)))
    .aggregate({ n: count() });

const lines = (times: readonly number[]) => times.map((at) => JSON.stringify({ page: "/", at }));
const LOG = [1, 3, 7, 12, 13, 19, 31];
const MORE = [...LOG, 33, 47, 58];
const SCHEMA = 'it"s';

describe.skipIf(missing !== null)(
  `backfill to PostgreSQL${missing === null ? "" : ` (${missing})`}`,
  () => {
    const before = { ...process.env };
    let server: TestPostgres;
    let workspace: Workspace;
    let database = "";
    let databases = 0;
    beforeAll(async () => {
      server = await startPostgres();
    });
    afterAll(async () => {
      process.env = before;
      await server?.stop();
    });
    beforeEach(async () => {
      workspace = await Workspace.create();
      database = `backfilled_${++databases}`;
      Object.assign(process.env, await server.createDatabase(database));
    });
    afterEach(() => workspace.remove());

    const sinks = (schema = SCHEMA) => [lake(), duckdb(), postgres({ schema })];
    const v1 = pipeline("clicks", { pages: tumble(10), gone: clicks.rows() }, { sinks: sinks() });
    // Another key and type of a column: what no ALTER TABLE makes of the old one.
    const v2 = pipeline("clicks", { pages: tumble(5), clean: clicks.rows() }, { sinks: sinks() });

    const query = async (sql: string) => (await server.query(sql, database)).rows;
    const quoted = (schema = SCHEMA) => `"${schema.replaceAll('"', '""')}"`;
    const tablesIn = async (schema = SCHEMA) => {
      const rows = await query(
        `SELECT relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE nspname = '${schema}' AND relkind = 'r' ORDER BY 1`,
      );
      return rows.map(({ name }) => name);
    };
    const pages = (schema = SCHEMA) =>
      query(`SELECT window_start, n::int FROM ${quoted(schema)}.pages ORDER BY 1`);
    const counts = async (schema = SCHEMA) => (await pages(schema)).map(({ n }) => n);
    /** By DuckDB, of the times themselves. */
    const expected = async (times: readonly number[], size: number) => {
      const rows = await withResults([], (connection) =>
        readRows(
          connection,
          `SELECT count(*)::INTEGER AS n FROM (SELECT unnest([${times.join()}]) AS t)
        GROUP BY floor(t / ${size}) ORDER BY floor(t / ${size})`,
        ),
      );
      return rows.map(({ n }) => n);
    };
    const run = (of: Pipeline, out: string) => workspace.run({ pipeline: of, out, batchSize: 3 });
    const rebuilt = (of: Pipeline, out: string, onProgress = () => {}) =>
      backfill({ pipeline: of, out, flush: true, batchSize: 3, onProgress });

    async function output(of = v1): Promise<string> {
      await workspace.write("clicks", [lines(LOG)]);
      const out = workspace.newOutput();
      await run(of, out);
      return out;
    }

    async function goesOn(out: string, of = v2, size = 5): Promise<void> {
      await workspace.write("clicks", [lines(MORE)]);
      await run(of, out);
      expect(await counts()).toEqual(await expected(MORE, size));
      const data = outputPaths(out).data;
      const own = await withResults([data], (connection) =>
        readRows(connection, "SELECT n::INTEGER AS n FROM run0.pages ORDER BY window_start"),
      );
      expect(own.map(({ n }) => n)).toEqual(await counts());
    }

    test("tables give way to the rebuilt ones, and who could read them still can", async () => {
      const out = await output();
      await query("CREATE ROLE reader_of_all");
      await query(`GRANT SELECT ON ${quoted()}.pages TO reader_of_all WITH GRANT OPTION`);
      await query(`GRANT SELECT ON ${quoted()}.pages TO PUBLIC`);
      await query(`GRANT SELECT (payload, "table") ON ${quoted()}.late TO reader_of_all`);
      expect(await counts()).toEqual(await expected(LOG, 10));
      expect(await rebuilt(v2, out)).toMatchObject({ kind: "done", audit: { equal: true } });
      expect(await counts()).toEqual(await expected(LOG, 5));
      const tables = ["clean", "dead_letters", "late", "millpond_progress", "pages"];
      expect(await tablesIn()).toEqual(tables);
      expect(await tablesIn(`${SCHEMA}_backfill`)).toEqual([]);
      const [grants] = await query(
        `SELECT array_agg(a::text ORDER BY a::text) AS acl FROM pg_class, unnest(relacl) AS a
      WHERE oid = '${quoted()}.pages'::regclass`,
      );
      expect(grants.acl).toContain("reader_of_all=r*/postgres");
      expect(grants.acl).toContain("=r/postgres");
      const granted = await query(
        `SELECT attname AS name FROM pg_attribute
        WHERE attrelid = '${quoted()}.late'::regclass AND attacl IS NOT NULL ORDER BY 1`,
      );
      expect(granted.map(({ name }) => name)).toEqual(["payload", "table"]);
      expect(await rebuilt(v2, out)).toEqual({ kind: "current" });
      await goesOn(out);
    });

    test("cut off before the rename, the old ones stand, and the next begins anew", async () => {
      const out = await output();
      const killed = rebuilt(v2, out, () => {
        throw new Error("killed");
      });
      await expect(killed).rejects.toThrow("killed");
      expect(await counts()).toEqual(await expected(LOG, 10));
      await run(v1, out);
      await rebuilt(v2, out);
      await goesOn(out);
    });

    test.each(["run", "backfill", "another backfill"])(
      "cut off between the rename and the server's commit, the next %s ends it",
      async (next) => {
        const out = await output();
        // Made behind the check, a view keeps the tables from being dropped.
        let view: Promise<unknown> | null = null;
        const cut = rebuilt(v2, out, () => {
          view ??= query(`CREATE VIEW public.reader AS SELECT n FROM ${quoted()}.pages`);
        });
        await expect(cut).rejects.toMatchObject({
          code: "OUTPUT",
          message: expect.stringContaining("drop what reads that table"),
        });
        await view;
        expect(await counts()).toEqual(await expected(LOG, 10));
        expect(existsSync(join(out, "results.duckdb"))).toBe(true);
        await expect(run(v1, out)).rejects.toMatchObject({ code: "OUTPUT" });
        await query("DROP VIEW public.reader");
        if (next === "another backfill") {
          await rebuilt(v1, out);
          return goesOn(out, v1, 10);
        }
        if (next === "backfill") {
          expect(await rebuilt(v2, out)).toEqual({ kind: "current" });
          expect(await counts()).toEqual(await expected(LOG, 5));
        }
        await goesOn(out);
      },
    );

    test("a server that comes with the new definition, or another schema, is filled", async () => {
      const out = await output(
        pipeline("clicks", { pages: tumble(10) }, { sinks: [lake(), duckdb()] }),
      );
      await rebuilt(v2, out);
      expect(await counts()).toEqual(await expected(LOG, 5));
      const other = pipeline("clicks", { pages: tumble(10) }, { sinks: sinks("other") });
      await rebuilt(other, out);
      expect(await counts("other")).toEqual(await expected(LOG, 10));
      expect(await counts()).toEqual(await expected(LOG, 5));
    });

    test("an output without records takes the schema as well", async () => {
      await workspace.write("clicks", [[]]);
      const out = workspace.newOutput();
      await run(v1, out);
      await rebuilt(v2, out);
      await goesOn(out);
    });

    test("a server that an audit would not look for is refused at once", async () => {
      const out = await output();
      const { PGHOST } = process.env;
      delete process.env.PGHOST;
      await expect(rebuilt(v2, out)).rejects.toMatchObject({ code: "USAGE" });
      process.env.PGHOST = PGHOST;
      expect(await counts()).toEqual(await expected(LOG, 10));
      await rebuilt(v2, out);
      await goesOn(out);
    });

    test("what could not be put in place is refused before anything is rebuilt", async () => {
      const out = await output();
      const refused = async (of: Pipeline, message: string) => {
        await expect(rebuilt(of, out)).rejects.toMatchObject({
          code: "OUTPUT",
          message: expect.stringContaining(message),
        });
        expect(await counts()).toEqual(await expected(LOG, 10));
      };
      await query(`CREATE VIEW public.reader AS SELECT n FROM ${quoted()}.pages`);
      await refused(v2, "are read by reader");
      await query("DROP VIEW public.reader");
      await query(`CREATE TABLE public.mine ("table" text, topic text, partition int,
        "offset" bigint,
        FOREIGN KEY ("table", topic, partition, "offset") REFERENCES ${quoted()}.late)`);
      await refused(v2, "are read by constraint mine_");
      await query("DROP TABLE public.mine");
      await query(`ALTER TABLE ${quoted()}.gone ENABLE ROW LEVEL SECURITY`);
      await refused(v2, 'table "gone" in schema');
      await query(`ALTER TABLE ${quoted()}.gone DISABLE ROW LEVEL SECURITY`);
      await query(`CREATE TABLE ${quoted()}.clean (mine int)`);
      await refused(v2, 'has a "clean" that Millpond did not make');
      await query(`DROP TABLE ${quoted()}.clean`);
      await query(`CREATE SCHEMA ${quoted(`${SCHEMA}_backfill`)}`);
      await refused(v2, "is there and not Millpond's");
      await query(`DROP SCHEMA ${quoted(`${SCHEMA}_backfill`)}`);
      const taken = await output(
        pipeline("clicks", { pages: tumble(5) }, { sinks: sinks("taken") }),
      );
      expect(taken).not.toBe(out);
      await refused(
        pipeline("clicks", { pages: tumble(5) }, { sinks: sinks("taken") }),
        "holds the results of another output",
      );
      const clean = clicks.rows();
      for (const [sink, advice] of [
        [kafka({ table: "clean", topic: "clean" }), "another topic"],
        [snowflake(), "SWAP WITH"],
      ] as const) {
        await refused(pipeline("clicks", { clean }, { sinks: [lake(), sink] }), advice);
      }
      await rebuilt(v2, out);
      await goesOn(out);
    });
  },
);
