/** What `audit` once passed over: each is an output that somebody changed, and must be found. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { AuditReport } from "../../lib/audit/audit.js";
import {
  double,
  lake,
  pipeline,
  postgres,
  seconds,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { runPipeline } from "../../lib/runtime/run-pipeline.js";
import { quoteText } from "../../lib/sinks/duckdb-types.js";
import {
  tables as allTables,
  auditBed,
  change,
  found,
  LOGS,
  SINKS,
  TOPIC,
  visits,
  withDatabase,
} from "./support/audited-visits.js";

const { rolling: _, ...tables } = allTables;
const plain = pipeline("visits", tables, { sinks: SINKS });
const { run, audited, workspace } = auditBed(plain);

async function editLake(
  out: string,
  table: string,
  select: (rows: string) => string,
): Promise<void> {
  const folder = join(out, "lake", table);
  for (const name of await readdir(folder, { recursive: true })) {
    if (!name.endsWith(".parquet")) continue;
    const file = join(folder, name);
    const records = `read_parquet(${quoteText(file)}, hive_partitioning = false)`;
    await withDatabase(":memory:", (connection) =>
      connection.run(`COPY (${select(records)}) TO ${quoteText(`${file}.new`)} (FORMAT parquet)`),
    );
    renameSync(`${file}.new`, file);
  }
}

describe("found too", () => {
  test("rows of windows and sessions still open that no record explains", async () => {
    const out = await run(plain, { flush: false });
    const later = "now() + interval 10 seconds";
    await change(
      out,
      `INSERT INTO tens SELECT * REPLACE (now() AS window_start, ${later} AS window_end) FROM tens
        LIMIT 1`,
    );
    await change(
      out,
      `INSERT INTO stays SELECT * REPLACE (now() AS session_start, ${later} AS session_end)
        FROM stays LIMIT 1`,
    );
    const report = found(await audited(out));
    expect(report).toMatchObject({ tens: [{ kind: "extra" }], stays: [{ kind: "extra" }] });
  });

  test("any number in the place of an infinite one", async () => {
    const measured = stream(TOPIC, {
      schema: { user: string(), n: double(), at: timestamp({ format: "epoch_s" }) },
      eventTime: "at",
      lateness: seconds(5),
    });
    const sums = measured.window(tumbling(seconds(10))).aggregate({ total: sum("n") });
    const huge = pipeline("visits", { sums }, { sinks: SINKS });
    const records = [1, 2].map((at) => JSON.stringify({ user: "ann", n: 1e308, at }));
    await workspace().write(TOPIC, [records]);
    const out = workspace().newOutput();
    await workspace().run({ pipeline: huge, out, batchSize: 2 });
    expect(found(await audited(out, huge))).toEqual({});
    await change(out, "UPDATE sums SET total = 5");
    expect(found(await audited(out, huge))).toMatchObject({ sums: [{ kind: "different" }] });
  });

  test("records that bronze lost or has twice, also where no row tells", async () => {
    const rows = pipeline(
      "visits",
      { clean: visits.filter((e) => e.n.gte(0)) },
      { sinks: [lake()] },
    );
    const lost = await run(rows);
    expect(found(await audited(lost, rows))).toEqual({});
    // A negative one, which the filter leaves out.
    await editLake(
      lost,
      "bronze",
      (records) => `SELECT * FROM ${records} WHERE NOT ("partition" = 0 AND "offset" = 7)`,
    );
    expect(found(await audited(lost, rows))).toMatchObject({
      bronze: [{ columns: ["records: 8 / 7"] }],
    });
    const twice = await run(rows);
    await editLake(twice, "bronze", (records) => `FROM ${records} UNION ALL FROM ${records}`);
    expect(await audited(twice, rows, { table: "clean" })).toMatchObject({ equal: false });
  });

  test("a dead letter's bytes, and its reason in the accounting", async () => {
    const out = await run();
    await change(out, `UPDATE dead_letters SET raw = '"other"'::BLOB`);
    await change(out, "UPDATE accounting SET malformed = 7 WHERE kind = 'stream'");
    await change(
      out,
      "INSERT INTO accounting SELECT * REPLACE ('none' AS name) FROM accounting LIMIT 1",
    );
    const report = found(await audited(out));
    expect(report.dead_letters).toMatchObject([
      { columns: [expect.stringMatching(/^raw: "other"/)] },
    ]);
    expect(report.accounting).toMatchObject([
      { kind: "different", columns: ["malformed: 7 / 0"] },
      { kind: "extra" },
    ]);
  });
});

describe("every copy", () => {
  const places = ({ tables }: AuditReport) =>
    tables.flatMap(({ table, place, different, missing, extra }) =>
      different + missing + extra === 0 ? [] : [[place, table, different, missing, extra]],
    );

  test("of the lake, though the database is as it should be", async () => {
    const out = await run();
    await editLake(out, "tens", (rows) => `SELECT * REPLACE (hits + 1 AS hits) FROM ${rows}`);
    await editLake(out, "clean", (rows) => `SELECT * FROM ${rows} WHERE id <> 'x'`);
    expect(places(await audited(out))).toEqual([
      ["lake", "tens", 7, 0, 0],
      ["lake", "clean", 0, 1, 0],
    ]);
  });

  test("the database, that somebody removed", async () => {
    const out = await run();
    rmSync(join(out, "results.duckdb"));
    expect(places(await audited(out))).toEqual([
      ["results.duckdb", "tens", 0, 7, 0],
      ["results.duckdb", "stays", 0, 7, 0],
      ["results.duckdb", "clean", 0, 8, 0],
      ["results.duckdb", "late", 0, 2, 0],
      ["results.duckdb", "dead_letters", 0, 1, 0],
      ["results.duckdb", "accounting", 0, 4, 0],
    ]);
  });

  test("the accounting, that somebody dropped, as a whole or a row of it", async () => {
    const out = await run();
    await change(out, "DELETE FROM accounting WHERE name = 'tens'");
    expect(places(await audited(out))).toEqual([["results.duckdb", "accounting", 0, 1, 0]]);
    await change(out, "DROP TABLE accounting");
    expect(places(await audited(out))).toEqual([["results.duckdb", "accounting", 0, 4, 0]]);
  });

  test("a server that no variable names is said not to have been read", async () => {
    const servers = pipeline("visits", tables, { sinks: [...SINKS, postgres({ schema: "s" })] });
    const out = workspace().newOutput();
    await workspace().write(TOPIC, LOGS);
    await workspace().run({ pipeline: plain, out, batchSize: 2 });
    const manifest = join(out, "millpond.json");
    const written = JSON.parse(readFileSync(manifest, "utf8"));
    writeFileSync(manifest, JSON.stringify({ ...written, definition: servers.definition }));
    const report = await audited(out, servers);
    expect(report).toMatchObject({ equal: true, unread: [{ place: "PostgreSQL schema s" }] });
    expect(report.unread[0]?.reason).toContain("set DATABASE_URL or PGHOST");
  });
});

test("the accounting of before a run that was stopped is no difference", async () => {
  const lines = (count: number) =>
    Array.from({ length: count }, (_, i) =>
      JSON.stringify({ id: `r${i}`, user: "ann", n: 1, at: 100 + i }),
    );
  await workspace().write(TOPIC, [lines(50)]);
  const out = workspace().newOutput();
  await workspace().run({ pipeline: plain, out, batchSize: 10 });
  await workspace().write(TOPIC, [lines(300)]);
  let slices = 0;
  const stopped = runPipeline({
    pipeline: plain,
    inputs: new Map([[TOPIC, workspace().input(TOPIC)]]),
    out,
    flush: true,
    batchSize: 10,
    workers: 1,
    speed: 1_000_000,
    turnMs: 1,
    onProgress: ({ phase }) => {
      if (phase === "reading" && ++slices > 20) throw new Error("stopped");
    },
  });
  await expect(stopped).rejects.toThrow("stopped");
  const report = await audited(out);
  expect(found(report)).toEqual({});
  expect(report.skipped).toMatchObject([{ table: "accounting" }]);
  await workspace().run({ pipeline: plain, out, batchSize: 10 });
  expect(await audited(out)).toMatchObject({ equal: true, skipped: [] });
});

test("a window that waits for a slower partition is open, not different", async () => {
  const event = (id: string, user: string, at: number) => JSON.stringify({ id, user, n: 1, at });
  const [fast, slow] = [[event("a", "ann", 100)], [event("x", "eve", 101)]];
  await workspace().write(TOPIC, [fast, slow]);
  const out = workspace().newOutput();
  await workspace().run({ pipeline: plain, out, batchSize: 10 });
  await workspace().write(TOPIC, [[...fast, event("b", "ann", 103), event("c", "ann", 140)], slow]);
  await workspace().run({ pipeline: plain, out, batchSize: 10, flush: false });
  expect(found(await audited(out))).toEqual({});
});
