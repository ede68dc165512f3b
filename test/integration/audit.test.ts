/**
 * `audit` over outputs of real runs: equal as they are; and of a row, a record or a verdict that
 * somebody changed, it says which and why.
 */
import { renameSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openOutput } from "../../lib/audit/place.js";
import {
  avg,
  bigint,
  count,
  double,
  duckdb,
  pipeline,
  quantile,
  reference,
  seconds,
  stddev,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
  variance,
} from "../../lib/index.js";
import { quoteText } from "../../lib/sinks/duckdb-types.js";
import {
  auditBed,
  change,
  found,
  LOGS,
  plain,
  SINKS,
  TOPIC,
  tables,
  visits,
  withDatabase,
} from "./support/audited-visits.js";

const { run, audited, workspace } = auditBed(plain);

describe("an output as it is", () => {
  test("is equal, and every table was held against its recomputation", async () => {
    const report = await audited(await run());
    expect(found(report)).toEqual({});
    expect(report).toMatchObject({ equal: true, records: 11, partitions: 2, skipped: [] });
    const both = [
      ["tens", 7],
      ["rolling", 9],
      ["stays", 7],
      ["clean", 8],
      ["late", 3],
      ["dead_letters", 1],
    ];
    const of = (name: string) =>
      report.tables.filter(({ place }) => place === name).map(({ table, rows }) => [table, rows]);
    expect(of("lake")).toEqual(both);
    expect(of("results.duckdb")).toEqual([...both, ["accounting", 5]]);
  });

  test("is equal where open windows were left unpublished, which are counted as open", async () => {
    const report = await audited(await run(plain, { flush: false }));
    expect(found(report)).toEqual({});
    const open = report.tables.map(({ table, open }) => [table, open]);
    expect(open).toContainEqual(["tens", 4]);
    expect(open).toContainEqual(["clean", 0]);
  });

  test("is equal where windows were published open, and more came without a flush", async () => {
    const [first, second] = LOGS;
    await workspace().write(TOPIC, [first.slice(0, 5), second.slice(0, 2)]);
    const out = workspace().newOutput();
    await workspace().run({ pipeline: plain, out, batchSize: 100 });
    await workspace().write(TOPIC, LOGS);
    await workspace().run({ pipeline: plain, out, batchSize: 100, flush: false });
    expect(found(await audited(out))).toEqual({});
  });

  test("is equal where doubles cancel out over partitions, or are very great", async () => {
    const measured = stream(TOPIC, {
      schema: { user: string(), n: double(), at: timestamp({ format: "epoch_s" }) },
      eventTime: "at",
      lateness: seconds(5),
    });
    const sums = measured
      .groupBy("user")
      .window(tumbling(seconds(10)))
      .aggregate({
        total: sum("n"),
        mean: avg("n"),
        spread: stddev("n"),
        around: variance("n"),
        half: quantile("n", 0.5),
      });
    const huge = pipeline("visits", { sums }, { sinks: SINKS });
    const values = {
      money: [1e12, 0.01, -1e12, 0.02, 5e11, -5e11],
      swallowed: [1e17, 3.3, 5, 1, -1e17, 0.1],
      over: [1e308, 1e308, -1e308],
      same: [1e200, 1e200],
      one: [-1e308],
    };
    const logs = Object.entries(values).flatMap(([user, numbers]) =>
      numbers.map((n, i) => [i % 3, JSON.stringify({ user, n, at: 100 })] as const),
    );
    const parts = [0, 1, 2].map((p) => logs.filter(([at]) => at === p).map(([, line]) => line));
    await workspace().write(TOPIC, parts);
    const out = workspace().newOutput();
    await workspace().run({ pipeline: huge, out, batchSize: 2 });
    expect(found(await audited(out, huge))).toEqual({});
    await change(out, "UPDATE sums SET total = total + 0.01 WHERE \"user\" = 'money'");
    await change(out, "UPDATE sums SET spread = 1 WHERE \"user\" = 'swallowed'");
    await change(out, "UPDATE sums SET spread = NULL WHERE \"user\" = 'same'");
    const { sums: differences } = found(await audited(out, huge));
    expect(differences).toHaveLength(3);
  });

  test("of one table, and of a part of its time", async () => {
    const out = await run();
    await change(out, "UPDATE tens SET hits = 9 WHERE window_start = '1970-01-01 00:01:40Z'");
    const at = { table: "tens", fromMs: 110_000, toMs: 150_000 };
    expect(await audited(out, plain, at)).toMatchObject({ equal: true });
    const before = await audited(out, plain, { table: "tens", toMs: 110_000 });
    expect(before.tables).toMatchObject([
      { table: "tens", place: "lake", different: 0 },
      { table: "tens", place: "results.duckdb", different: 2 },
    ]);
  });
});

describe("a change is found, with the offset that explains it", () => {
  test("a window that lacks a record", async () => {
    const out = await run();
    await change(out, "UPDATE tens SET hits = 1, total = 1 WHERE \"user\" = 'ann' AND hits = 2");
    expect(found(await audited(out))).toEqual({
      tens: [
        {
          kind: "different",
          columns: ["hits: 1 / 2", "total: 1 / 3"],
          explanation:
            "visits-0 offset 1: with it the row is as recomputed, the published row lacks it",
        },
      ],
    });
  });

  test("a window that counts a record that came late", async () => {
    const out = await run();
    await change(out, "UPDATE tens SET hits = 2, total = 10 WHERE \"user\" = 'bob' AND total = 3");
    const { tens } = found(await audited(out));
    expect(tens).toMatchObject([{ kind: "different", columns: ["hits: 2 / 1", "total: 10 / 3"] }]);
    expect(tens[0].explanation).toMatch(
      /^visits-0 offset 5: the published row counts it, but it came late/,
    );
  });

  test("rows that are not there, or should not be", async () => {
    const out = await run();
    await change(out, "DELETE FROM stays WHERE session_start = '1970-01-01 00:01:52Z'");
    await change(
      out,
      "INSERT INTO rolling SELECT * REPLACE (now() AS window_start) FROM rolling LIMIT 1",
    );
    await change(out, 'INSERT INTO clean SELECT * REPLACE (77 AS "offset") FROM clean LIMIT 1');
    const report = found(await audited(out));
    expect(report.stays).toMatchObject([
      { kind: "missing", explanation: "visits-0 offset 2: the first of the row's 1 records" },
    ]);
    expect(report.rolling).toMatchObject([
      { kind: "extra", explanation: "no record in bronze explains it" },
    ]);
    expect(report.clean).toMatchObject([
      {
        kind: "extra",
        explanation: expect.stringMatching(/offset 77: bronze has no such record$/),
      },
    ]);
  });

  test("a row that is there twice", async () => {
    const out = await run();
    await change(out, "INSERT INTO clean FROM clean WHERE id = 'x'");
    expect(found(await audited(out)).clean).toMatchObject([{ kind: "extra" }]);
  });

  test("a verdict of lateness", async () => {
    const out = await run();
    await change(out, "UPDATE clean SET late = false WHERE id = 'e'");
    await change(out, "DELETE FROM late WHERE \"table\" = 'stays'");
    const report = found(await audited(out));
    expect(report.clean).toMatchObject([
      {
        columns: ["late: false / true"],
        explanation: expect.stringMatching(
          /^visits-0 offset 5: came late, event time 1970-01-01T00:01:53/,
        ),
      },
    ]);
    expect(report.late).toMatchObject([
      { kind: "missing", explanation: expect.stringMatching(/^visits-0 offset 5/) },
    ]);
  });

  test("a record that bronze lost", async () => {
    const out = await run();
    const folder = join(out, "lake", "bronze");
    for (const name of await readdir(folder, { recursive: true })) {
      if (!name.endsWith(".parquet")) continue;
      const file = join(folder, name);
      await withDatabase(":memory:", (connection) =>
        connection.run(`COPY (SELECT * FROM read_parquet(${quoteText(file)},
          hive_partitioning = false) WHERE NOT ("partition" = 0 AND "offset" = 1))
          TO ${quoteText(`${file}.new`)} (FORMAT parquet)`),
      );
      renameSync(`${file}.new`, file);
    }
    const report = found(await audited(out));
    expect(report.tens).toMatchObject([
      {
        columns: ["hits: 2 / 1", "total: 3 / 1"],
        explanation: "visits-0 offset 1: was read, and bronze lacks it",
      },
    ]);
    expect(report.clean).toMatchObject([{ kind: "extra" }]);
    expect(report.accounting).toContainEqual(
      expect.objectContaining({ columns: ["records: 11 / 10", "events: 10 / 9"] }),
    );
  });
});

describe("what SQL cannot say, or does not hold", () => {
  test("a map is run where its function is given; else its table is left out", async () => {
    const shape = { user: string(), twice: bigint(), at: timestamp() };
    const doubling = visits.map(
      "double",
      ({ user, n, at }) => (n < 0n ? null : { user, twice: n * 2n, at }),
      shape,
    );
    const mapped = pipeline(
      "visits",
      {
        ...tables,
        doubled: doubling.rows(),
        sums: doubling
          .groupBy("user")
          .window(tumbling(seconds(10)))
          .aggregate({ total: sum("twice") }),
      },
      { sinks: SINKS },
    );
    const out = await run(mapped);
    const { functions } = mapped;
    expect(found(await audited(out, mapped, { functions }))).toEqual({});
    const without = await audited(out, mapped);
    expect(found(without)).toEqual({});
    expect(without.skipped.map(({ table }) => table)).toEqual(["doubled", "sums"]);
  });

  test("reference tables are those that the run kept, whatever became of the file", async () => {
    await writeFile(workspace().csv, "user,team\nann,red\nbob,blue\n");
    const teams = reference("teams", {
      file: workspace().csv,
      schema: { user: string(), team: string() },
    });
    const enriched = pipeline(
      "visits",
      {
        teams: visits
          .enrich(teams, { on: "user", select: ["team"] })
          .groupBy("team")
          .window(tumbling(seconds(10)))
          .aggregate({ hits: count() }),
      },
      { sinks: SINKS },
    );
    const out = await run(enriched);
    await writeFile(workspace().csv, "user,team\nann,green\n");
    expect(found(await audited(out, enriched))).toEqual({});
  });

  test("without bronze there is nothing to recompute from", async () => {
    const out = await run(pipeline("visits", tables, { sinks: [duckdb()] }));
    await expect(openOutput(out)).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("keeps no bronze"),
    });
  });

  test("an unknown table is refused with those that there are", async () => {
    const out = await run();
    await expect(audited(out, plain, { table: "tenz" })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("tens, rolling, stays, clean, late, dead_letters"),
    });
  });
});
