/** The database made from the lake: what it holds, and which of two takes the other's place. */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  compareVersions,
  DatabaseSnapshot,
  type DatabaseStorage,
} from "../../../lib/sinks/database-snapshot.js";
import type { LakeTableState } from "../../../lib/sinks/lake.js";
import type { TableLayout } from "../../../lib/sinks/sink.js";
import { Random, testRounds, testSeed } from "../../integration/support/random.js";

let dir = "";
let instance: DuckDBInstance;
let connection: DuckDBConnection;

beforeAll(async () => {
  dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-snapshot-"));
  instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'");
});
afterAll(async () => {
  instance.closeSync();
  await fs.rm(dir, { recursive: true, force: true });
});

const column = (name: string, kind: "string" | "int" | "timestamp", nullable = false) => ({
  name,
  type: { kind },
  nullable,
});
const WINDOWED: TableLayout = {
  name: "select",
  kind: "windowed",
  columns: [
    column("window_start", "timestamp"),
    column("Group", "string", true),
    column("n", "int"),
    column("revision", "int"),
  ],
  key: ["window_start", "Group"],
  dateColumn: "window_start",
};
const ROWS: TableLayout = {
  name: "rows",
  kind: "rows",
  columns: [column("n", "int")],
  key: [],
  dateColumn: "n",
};

/** A bucket's one file, as a file. */
class OneFile implements DatabaseStorage {
  readonly uri = path.join(dir, "bucket.duckdb");
  /** Done before an upload, once: by someone who is faster. */
  beforeUpload: (() => Promise<void>) | null = null;
  uploads = 0;

  async etag(): Promise<string | null> {
    return fs.readFile(this.uri).then(
      (bytes) => Buffer.from(bytes).toString("base64"),
      () => null,
    );
  }

  async download(file: string): Promise<string | null> {
    const etag = await this.etag();
    if (etag !== null) await fs.copyFile(this.uri, file);
    return etag;
  }

  async upload(file: string, expected: string | null): Promise<"written" | "conflict"> {
    const before = this.beforeUpload;
    this.beforeUpload = null;
    await before?.();
    if ((await this.etag()) !== expected) return "conflict";
    await fs.copyFile(file, this.uri);
    this.uploads++;
    return "written";
  }

  async access() {
    return { extensionDirectory: dir, statements: [], expiresAtMs: null };
  }
}

async function newStorage(): Promise<OneFile> {
  const storage = new OneFile();
  await fs.rm(storage.uri, { force: true });
  return storage;
}

function snapshotIn(storage: DatabaseStorage, pipeline = "p"): DatabaseSnapshot {
  const held = new Set(["select", "rows"]);
  return new DatabaseSnapshot({ storage, pipeline, held, tempDir: path.join(dir, "tmp") });
}

let files = 0;

async function parquet(select: string): Promise<{ uri: string; bytes: number }> {
  const uri = path.join(dir, `part-${files++}.parquet`);
  await connection.run(`COPY (${select}) TO '${uri}' (FORMAT parquet)`);
  return { uri, bytes: (await fs.stat(uri)).size };
}

const numbers = (...list: number[]) => parquet(`SELECT unnest([${list.join(", ")}])::INTEGER AS n`);

function rowsState(version: number, ...live: { uri: string; bytes: number }[]): LakeTableState {
  return { layout: ROWS, version, files: live };
}

async function stored(storage: OneFile, sql: string): Promise<string[]> {
  const database = await DuckDBInstance.create(storage.uri, { access_mode: "READ_ONLY" });
  try {
    const reading = await database.connect();
    await reading.run("SET TimeZone = 'UTC'");
    const reader = await reading.runAndReadAll(sql);
    return reader.getRowsJson().map((row) => JSON.stringify(row));
  } finally {
    database.closeSync();
  }
}

describe("what it holds", () => {
  test("files added, one by one, and files merged give what all files give at once", async () => {
    const seed = testSeed();
    for (let round = 0; round < testRounds(3); round++) {
      const random = new Random(seed + round);
      const storage = await newStorage();
      const revisions = new Map<string, number>();
      let live: { uri: string; bytes: number }[] = [];
      for (let step = 1; step <= 8; step++) {
        const rows = new Map<string, string>();
        for (let i = random.between(1, 8); i > 0; i--) {
          const group = random.pick(["'a'", "NULL::VARCHAR"]);
          const key = `TIMESTAMPTZ '2025-01-0${1 + random.below(3)}', ${group}`;
          const revision = (revisions.get(key) ?? -1) + 1;
          revisions.set(key, revision);
          rows.set(key, `(${key}, ${random.below(99)}, ${revision}, ${random.chance(0.3)})`);
        }
        const names = '(window_start, "Group", n, revision, retracted)';
        live.push(await parquet(`SELECT * FROM (VALUES ${[...rows.values()]}) AS t${names}`));
        if (random.chance(0.2)) {
          const list = live.map(({ uri }) => `'${uri}'`);
          live = [await parquet(`SELECT * FROM read_parquet([${list}])`)];
        }
        const tables = [{ layout: WINDOWED, version: step, files: live }];
        await snapshotIn(storage).publish({ sequence: step, tables, accounting: null });
        const list = live.map(({ uri }) => `'${uri}'`);
        const latest = await connection.runAndReadAll(
          `SELECT window_start, "Group", arg_max(n, revision), max(revision) FROM ` +
            `read_parquet([${list}]) GROUP BY ALL HAVING NOT arg_max(retracted, revision)`,
        );
        const expected = latest.getRowsJson().map((row) => JSON.stringify(row));
        expected.sort((a, b) => (a < b ? -1 : 1));
        const found = await stored(storage, 'FROM main."select"');
        expect(
          found.sort((a, b) => (a < b ? -1 : 1)),
          `seed ${random.seed}`,
        ).toEqual(expected);
      }
    }
  });

  test("a table grows from rows inside into a view; an empty one is there", async () => {
    const storage = await newStorage();
    const publish = (sequence: number, state: LakeTableState) =>
      snapshotIn(storage).publish({ sequence, tables: [state], accounting: null });
    await publish(1, rowsState(0));
    expect(await stored(storage, "SELECT count(*)::INTEGER FROM rows")).toEqual(["[0]"]);
    const live = [await numbers(1, 2)];
    const kind = "SELECT table_type FROM information_schema.tables WHERE table_name = 'rows'";
    await publish(2, rowsState(1, ...live));
    expect(await stored(storage, kind)).toEqual(['["BASE TABLE"]']);
    while (live.length < 65) live.push(await numbers(live.length + 2));
    await publish(3, rowsState(2, ...live));
    expect(await stored(storage, kind)).toEqual(['["VIEW"]']);
    const sum = "SELECT count(*)::INTEGER, sum(n)::INTEGER FROM rows";
    expect(await stored(storage, sum)).toEqual([JSON.stringify([66, (66 * 67) / 2])]);
    const named = "SELECT count(*)::INTEGER FROM millpond.files WHERE NOT held";
    expect(await stored(storage, named)).toEqual(["[65]"]);
    await publish(4, rowsState(3, await numbers(7)));
    expect(await stored(storage, "FROM rows")).toEqual(["[7]"]);
  });

  test("an accounting that is not known yet stays as it was", async () => {
    const storage = await newStorage();
    const accounting = [{ kind: "stream", name: "it's", records: 5 }];
    await snapshotIn(storage).publish({ sequence: 1, tables: [], accounting });
    await snapshotIn(storage).publish({ sequence: 2, tables: [], accounting: null });
    expect(await stored(storage, "FROM accounting")).toEqual(['["stream","it\'s","5"]']);
    const progress = "SELECT pipeline, sequence FROM millpond.progress";
    expect(await stored(storage, progress)).toEqual(['["p","2"]']);
  });
});

describe("which of two takes the other's place", () => {
  test("the order is by publications, then by the lake, then by records", () => {
    const version = (sequence: number, lakeVersions: number, records: number) => ({
      sequence,
      lakeVersions,
      records,
    });
    expect(compareVersions(version(0, 0, 0), null)).toBe("newer");
    expect(compareVersions(version(2, 1, 1), version(1, 9, 9))).toBe("newer");
    expect(compareVersions(version(2, 1, 9), version(2, 2, 1))).toBe("older");
    expect(compareVersions(version(2, 2, 9), version(2, 2, 1))).toBe("newer");
    expect(compareVersions(version(2, 2, 2), version(2, 2, 2))).toBe("same");
  });

  test("an older one never replaces a newer one, and the same is not written again", async () => {
    const storage = await newStorage();
    const content = { sequence: 5, tables: [], accounting: null };
    const snapshot = snapshotIn(storage);
    expect(await snapshot.publish(content)).toBe("written");
    expect(await snapshot.publish(content)).toBe("unchanged");
    expect(await snapshotIn(storage).publish(content)).toBe("unchanged");
    expect(await snapshotIn(storage).publish({ ...content, sequence: 4 })).toBe("superseded");
    expect(storage.uploads).toBe(1);
  });

  test("whoever is overtaken before the upload decides again", async () => {
    for (const [other, outcome, uploads] of [
      [9, "superseded", 1],
      [6, "written", 2],
      [7, "unchanged", 1],
    ] as const) {
      const storage = await newStorage();
      const publish = async (sequence: number) =>
        snapshotIn(storage).publish({ sequence, tables: [], accounting: null });
      storage.beforeUpload = async () => void (await publish(other));
      expect(await publish(7)).toBe(outcome);
      expect(storage.uploads).toBe(uploads);
      const newest = String(Math.max(7, other));
      const progress = await stored(storage, "SELECT sequence FROM millpond.progress");
      expect(progress).toEqual([JSON.stringify([newest])]);
    }
  });

  test("what is not ours is refused", async () => {
    const storage = await newStorage();
    const content = { sequence: 1, tables: [], accounting: null };
    await snapshotIn(storage, "other").publish(content);
    await expect(snapshotIn(storage).publish(content)).rejects.toThrow(/"other"'s, expected/);
    await fs.rm(storage.uri);
    const foreign = await DuckDBInstance.create(storage.uri);
    await (await foreign.connect()).run("CREATE TABLE mine AS SELECT 1");
    foreign.closeSync();
    await expect(snapshotIn(storage).publish(content)).rejects.toThrow(/of something else/);
    await fs.writeFile(
      storage.uri,
      "no database at all, but long enough to be looked at".repeat(99),
    );
    await expect(snapshotIn(storage).publish(content)).rejects.toMatchObject({ code: "OUTPUT" });
  });
});
