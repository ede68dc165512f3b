/**
 * The lake under faults, its compaction and checkpoints, and what `deltalake` makes of it, in a
 * local directory and on S3.
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type LakeSink, lakeSink } from "../../lib/sinks/lake.js";
import type { LakeStorage } from "../../lib/sinks/lake-storage.js";
import { type LakePlace, localPlace, s3Place } from "../contract/lake-places.js";
import { liveFiles, queryPlain, readLake } from "../contract/sinks-readers.js";
import {
  COUNTS,
  compareRows,
  count,
  EVENTS,
  LAYOUTS,
  randomScript,
  Script,
  stream,
} from "../contract/sinks-script.js";
import { deltalake, setUpDeltalake } from "./deltalake.js";

const DAY_MS = 86_400_000;

/** One commit per row, so that there are `commits` versions after the table's creation. */
async function commitOneByOne(sink: LakeSink, script: Script, commits: number): Promise<void> {
  for (let n = 0; n < commits; n++) {
    script.add(COUNTS, [count(n * 1000, "a", n, n)]);
    const sequence = script.publications.length;
    await sink.apply(stream(script.publications.slice(-1)), sequence);
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

type Fault = "before" | "after";

/** A storage whose n-th change fails: before it is done, or after (the reply is lost). */
class FaultyStorage implements LakeStorage {
  readonly tempDir: string;
  /** Changes still to come before the fault; negative: it has been. */
  left: number;
  readonly #inner: LakeStorage;
  readonly #fault: Fault;

  constructor(inner: LakeStorage, n: number, fault: Fault) {
    this.#inner = inner;
    this.tempDir = inner.tempDir;
    this.left = n;
    this.#fault = fault;
  }

  uri(name: string): string {
    return this.#inner.uri(name);
  }

  withLocal<T>(paths: readonly string[], work: (files: string[]) => Promise<T>): Promise<T> {
    return this.#inner.withLocal(paths, work);
  }

  get(name: string) {
    return this.#inner.get(name);
  }

  list(folder: string, after?: string) {
    return this.#inner.list(folder, after);
  }

  putIfAbsent(...args: Parameters<LakeStorage["putIfAbsent"]>) {
    return this.#change(() => this.#inner.putIfAbsent(...args));
  }

  put(...args: Parameters<LakeStorage["put"]>) {
    return this.#change(() => this.#inner.put(...args));
  }

  delete(name: string) {
    return this.#change(() => this.#inner.delete(name));
  }

  async #change<T>(work: () => Promise<T>): Promise<T> {
    const isFault = this.left-- === 0;
    if (isFault && this.#fault === "before") throw new Error("injected");
    const result = await work();
    if (isFault) throw new Error("injected");
    return result;
  }
}

/** A storage that does not list one table while it is down. */
class UnlistedStorage extends FaultyStorage {
  isDown = true;
  readonly #table: string;

  constructor(inner: LakeStorage, table: string) {
    super(inner, -1, "before");
    this.#table = table;
  }

  override list(folder: string, after?: string) {
    if (this.isDown && folder.startsWith(this.#table)) return Promise.reject(new Error("injected"));
    return super.list(folder, after);
  }
}

const noDeltalake = await setUpDeltalake();
const deltalakeTitle =
  noDeltalake === null ? "PyPI's deltalake" : `PyPI's deltalake (skipped: ${noDeltalake})`;

for (const place of [localPlace, await s3Place()]) {
  const { missing } = place;
  const title = `in ${place.name}${missing === null ? "" : ` (skipped: ${missing})`}`;
  describe.skipIf(missing !== null)(title, () => describeLake(place));
}

function describeLake(place: LakePlace): void {
  let dir: string;
  beforeAll(() => place.start());
  beforeEach(async () => {
    dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-lake-"));
  });
  afterEach(() => place.clear(dir));
  afterAll(() => place.stop());

  async function expectTables(script: Script): Promise<void> {
    const copy = await place.copy(dir);
    for (const layout of LAYOUTS) {
      const rows = (await readLake(copy, layout)).sort(compareRows);
      expect(rows).toEqual(script.expected(layout));
    }
  }

  async function withLake(work: (sink: LakeSink, done: number) => Promise<void>): Promise<void> {
    const storage = place.storage(dir);
    const sink = lakeSink({ dir, pipeline: "p", layouts: LAYOUTS, storage });
    try {
      await work(sink, await sink.open());
    } finally {
      await sink.close();
    }
  }

  /** Files of a table, without its log. */
  async function dataFiles(table: string): Promise<string[]> {
    const names = await place.storage(dir).list(table);
    return names.filter((name) => name.endsWith(".parquet") && !name.includes("/_delta_log/"));
  }

  async function tableDir(table: string): Promise<string> {
    return path.join(await place.copy(dir), table);
  }

  describe("a lake that fails between any two steps", () => {
    /** Enough commits for a compaction. */
    const script = new Script().add(EVENTS, []).add(COUNTS, [count(0, "z", 9, 9)]);
    for (let n = 0; n < 8; n++) {
      script.add(COUNTS, [count(n * 1000, "a", n, n), count(0, "z", 9, n, n + 1, n === 7)]);
    }
    const last = script.publications.length;

    for (const fault of ["before", "after"] as const) {
      it(`holds the same rows after a fault ${fault} each change of its storage`, async () => {
        let wasHit = true;
        let n = 0;
        for (; wasHit; n++) {
          await place.clear(dir);
          const storage = new FaultyStorage(place.storage(dir), n, fault);
          const broken = lakeSink({ dir, pipeline: "p", layouts: LAYOUTS, storage });
          try {
            for (let end = await broken.open(); end < last; end++) {
              await broken.apply(stream(script.publications.slice(end, end + 1)), end + 1);
            }
          } catch (error) {
            expect(String(error)).toContain("injected");
          }
          wasHit = storage.left < 0;
          await broken.close();
          await withLake(async (sink, done) => {
            await sink.apply(stream(script.publications.slice(done)), last);
          });
          await expectTables(script);
        }
        expect(n).toBeGreaterThan(25);
      }, 120_000);
    }

    it("sweeps files of a commit that never was, once no sink can be at work on it", async () => {
      const script = new Script().add(COUNTS, [count(0, "a", 1, 1)]);
      await withLake((sink) => sink.apply(stream(script.publications), 1));
      const put = (name: string, text: string) =>
        place.storage(dir).put(`select/event_date=2024-01-01/${name}`, Buffer.from(text));
      await put("part-1-old.zstd.parquet", "half a file");
      await put(`part-${Date.now()}-new.zstd.parquet`, "a file on its way");
      await withLake(async (sink) => {
        await sink.vacuum();
        expect(await dataFiles("select")).toHaveLength(2);
      });
    });

    it("opens whole or not at all: rows of a table that it lacks are passed over", async () => {
      const storage = new UnlistedStorage(place.storage(dir), EVENTS.name);
      const sink = lakeSink({ dir, pipeline: "p", layouts: LAYOUTS, storage });
      await expect(sink.open()).rejects.toThrow("injected");
      storage.isDown = false;
      await sink.open();
      expect(sink.tables().map(({ layout }) => layout)).toEqual(LAYOUTS);
      await sink.close();
    });

    it("stops with CONFLICT when another run moved a table meanwhile", async () => {
      const script = new Script()
        .add(COUNTS, [count(0, "a", 1, 1)])
        .add(COUNTS, [count(0, "b", 1, 1)]);
      const storage = place.storage(dir, "other-tmp");
      const options = { dir, pipeline: "p", layouts: LAYOUTS };
      const slow = lakeSink({ ...options, storage });
      await slow.open();
      await withLake((sink) => sink.apply(stream(script.publications.slice(0, 1)), 1));
      await expect(slow.apply(stream(script.publications), 2)).rejects.toMatchObject({
        code: "CONFLICT",
      });
      await slow.close();
      await withLake((sink) => sink.apply(stream(script.publications), 2));
      await expectTables(script);
    });
  });

  describe("compaction", () => {
    it("merges many small files of a date into one without changing a row", async () => {
      const script = new Script();
      await withLake(async (sink) => {
        await commitOneByOne(sink, script, 7);
        expect(await liveFiles(await tableDir("select"))).toHaveLength(7);
        await commitOneByOne(sink, script, 1);
        expect(await liveFiles(await tableDir("select"))).toHaveLength(1);
        expect(await dataFiles("select")).toHaveLength(9);
      });
      await expectTables(script);
    });

    it("leaves files as they are whose rows are too long to be merged in memory", async () => {
      // Ten megabytes a file, one as Parquet: eight of them are too much for a page in memory.
      const rows = () =>
        Array.from({ length: 400 }, (_, i) =>
          count(i, randomBytes(3_000).toString("hex").repeat(4), i, i),
        );
      const script = new Script();
      for (let n = 0; n < 9; n++) script.add(COUNTS, rows());
      await withLake(async (sink) => {
        for (const one of script.publications) await sink.apply(stream([one]), one.sequence);
      });
      const table = await tableDir("select");
      const files = await liveFiles(table);
      expect(files).toHaveLength(9);
      const names = files.map((file) => `'${path.join(table, decodeURI(file.path))}'`).join(", ");
      const sql = `SELECT count(*), sum(length("group")) FROM read_parquet([${names}])`;
      expect(await queryPlain(":memory:", sql)).toEqual([["3600", String(3_600 * 24_000)]]);
    });

    it("keeps replaced files until they are vacuumed", async () => {
      const script = new Script();
      await withLake((sink) => commitOneByOne(sink, script, 8));
      await withLake(async (sink) => {
        expect(await dataFiles("select")).toHaveLength(9);
        await sink.vacuum(-1);
        expect(await dataFiles("select")).toHaveLength(1);
      });
      await expectTables(script);
    });
  });

  describe.skipIf(noDeltalake !== null)(deltalakeTitle, () => {
    const ROWS = [
      "import pyarrow as pa",
      "def rows(table):",
      "    t = table.to_pyarrow_table()",
      "    key = lambda r: (r['window_start'], r['group'] or '', r['Order'] or 0, r['revision'])",
      "    t = t.set_column(0, 'window_start', t['window_start'].cast(pa.int64()))",
      "    t = t.set_column(1, 'window_end', t['window_end'].cast(pa.int64()))",
      "    t = t.set_column(t.schema.get_field_index('event_date'), 'event_date',",
      "                     t['event_date'].cast(pa.string()))",
      "    return sorted(t.to_pylist(), key=key)",
    ].join("\n");

    it("reads rows, partitions, progress and older versions", async () => {
      const script = new Script()
        .add(COUNTS, [count(0, "é'\" 日", 1, 1), count(86_400_000, null, null, 2)])
        .add(COUNTS, [
          count(0, "é'\" 日", 1, 10, 1, false),
          count(86_400_000, null, null, 2, 1, true),
        ]);
      await withLake(async (sink) => {
        await sink.apply(stream(script.publications.slice(0, 1)), 1);
        await sink.apply(stream(script.publications), 2);
      });
      const found = await deltalake(
        await tableDir("select"),
        `${ROWS}
t = DeltaTable(table_dir)
print(json.dumps({
  "version": t.version(), "txn": t.transaction_version("millpond:p:select"),
  "partitions": t.metadata().partition_columns,
  "protocol": [t.protocol().min_reader_version, t.protocol().min_writer_version],
  "rows": rows(t), "before": len(rows(DeltaTable(table_dir, version=1))),
  "second": t.to_pyarrow_table(partitions=[("event_date", "=", "2024-01-02")]).num_rows,
  "late": t.to_pyarrow_dataset().count_rows(
    filter=__import__("pyarrow.dataset").dataset.field("count") >= 10)}))`,
      );
      const start = Date.UTC(2024, 0, 1);
      const row = (
        day: number,
        group: string | null,
        n: number,
        revision: number,
        gone = false,
      ) => ({
        window_start: (start + day * 86_400_000) * 1000,
        window_end: (start + day * 86_400_000 + 60_000) * 1000,
        group,
        Order: group === null ? null : 1,
        count: n,
        revision,
        retracted: gone,
        event_date: `2024-01-0${day + 1}`,
      });
      const rows = [
        row(0, "é'\" 日", 1, 0),
        row(0, "é'\" 日", 10, 1),
        row(1, null, 2, 0),
        row(1, null, 2, 1, true),
      ];
      expect(found).toEqual({
        version: 2,
        txn: 2,
        partitions: ["event_date"],
        protocol: [1, 2],
        rows,
        before: 2,
        second: 2,
        late: 1,
      });
    }, 180_000);

    it("reads every type and the ends of time", async () => {
      const script = randomScript(11, 60);
      await withLake((sink) => sink.apply(stream(script.publications), 60));
      const found = await deltalake(
        await tableDir("events"),
        `import pyarrow as pa
t = DeltaTable(table_dir).to_pyarrow_table()
print(json.dumps({"rows": t.num_rows,
  "t": sorted(t["t"].cast(pa.int64()).drop_null().to_pylist()),
  "d18": sorted(str(v) for v in t["d18"].drop_null().to_pylist()),
  "raw": sorted(v.hex() for v in t["raw"].drop_null().to_pylist())}))`,
      );
      const expected = script.expected(EVENTS);
      const texts = (name: string) => {
        const index = EVENTS.columns.findIndex((column) => column.name === name);
        return expected.map((row) => row[index]).filter((value) => value !== null);
      };
      const decimals = texts("d18").map((text) => text.replace(/^(-?)\./, "$10."));
      expect(found).toMatchObject({
        rows: expected.length,
        t: texts("t")
          .map((ms) => Number(BigInt(ms) * 1000n))
          .sort((a, b) => a - b),
        raw: texts("raw").sort(compareText),
      });
      expect(found).toHaveProperty("d18.length", decimals.length);
    }, 180_000);

    it("reads the same from a log whose old part was deleted", async () => {
      const script = new Script();
      await withLake((sink) => commitOneByOne(sink, script, 60));
      const storage = place.storage(dir);
      const log = "select/_delta_log/";
      const versionsOf = async (suffix: string) =>
        (await storage.list("select/_delta_log"))
          .filter((name) => name.endsWith(suffix))
          .map((name) => Number(name.slice(log.length, -suffix.length)));
      const [kept = 0, later = 0] = (await versionsOf(".checkpoint.parquet")).slice(-2);
      expect([kept, later]).toEqual([40, 60]);
      // As if all up to the version before the last checkpoint had been written 31 days ago.
      for (const version of (await versionsOf(".json")).filter((version) => version < later)) {
        const name = `${log}${String(version).padStart(20, "0")}.json`;
        const text = new TextDecoder().decode((await storage.get(name)) ?? undefined);
        const old = text.replace(/"timestamp":(\d+)/, (_, ms) => `"timestamp":${ms - 31 * DAY_MS}`);
        expect(old).not.toBe(text);
        await storage.put(name, new TextEncoder().encode(old));
      }
      await withLake((sink) => sink.vacuum());
      expect(await versionsOf(".checkpoint.parquet")).toEqual([kept, later]);
      const versions = await versionsOf(".json");
      expect(versions[0]).toBe(kept);
      expect(versions.at(-1)).toBe(versions.length - 1 + kept);
      const found = await deltalake(
        await tableDir("select"),
        `def counts(version):
  table = DeltaTable(table_dir, version=version).to_pyarrow_table()
  return [table.num_rows, sum(table["count"].to_pylist())]
try:
  gone = counts(${kept - 1})
except Exception as error:
  gone = "gone"
now = DeltaTable(table_dir)
print(json.dumps([now.transaction_version("millpond:p:select"), counts(None),
  counts(${kept})[0], counts(${later})[0], gone]))`,
      );
      // Versions 1 to 8 are rows and 9 their compaction, then seven rows and a compaction each.
      expect(found).toEqual([60, [60, 1770], 8 + 3 * 7 + 7, 8 + 6 * 7 + 3, "gone"]);
      await storage.delete(`${log}_last_checkpoint`);
      await withLake(async (sink, done) => {
        expect(done).toBe(60);
        await commitOneByOne(sink, script, 1);
      });
      await expectTables(script);
    }, 180_000);

    it("reads from a checkpoint alone when the commits before it are gone", async () => {
      const script = new Script();
      await withLake((sink) => commitOneByOne(sink, script, 30));
      const storage = place.storage(dir);
      const names = await storage.list("select/_delta_log");
      const checkpoint = names.filter((name) => name.endsWith(".checkpoint.parquet")).at(-1);
      expect(checkpoint).toBeDefined();
      for (const name of names) {
        if (name.endsWith(".json") && name < String(checkpoint)) await storage.delete(name);
      }
      const found = await deltalake(
        await tableDir("select"),
        `t = DeltaTable(table_dir)
table = t.to_pyarrow_table()
print(json.dumps([t.version(), t.transaction_version("millpond:p:select"), table.num_rows,
  sum(table["count"].to_pylist())]))`,
      );
      // 30 rows, the table's creation (version 0) and four compactions.
      expect(found).toEqual([34, 30, 30, 435]);
      await withLake(async (sink, done) => {
        expect(done).toBe(30);
        await sink.apply(stream(script.publications), 30);
        await commitOneByOne(sink, script, 1);
      });
      const rows = await deltalake(
        await tableDir("select"),
        "print(json.dumps(DeltaTable(table_dir).to_pyarrow_table().num_rows))",
      );
      expect(rows).toBe(31);
    }, 180_000);
  });
}
