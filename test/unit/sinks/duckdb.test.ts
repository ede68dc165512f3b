/** What only the DuckDB sink does: accounting, and whose file it writes to. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { duckdbSink } from "../../../lib/sinks/duckdb.js";
import { queryPlain } from "../../contract/sinks-readers.js";
import { COUNTS, count, LAYOUTS, Script, stream } from "../../contract/sinks-script.js";

let dir: string;
let file: string;
beforeEach(async () => {
  dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-duckdb-"));
  file = path.join(dir, "results.duckdb");
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

/** Reads the file, and holds it until its input ends. */
const HOLD = `
  const { DuckDBInstance } = require("@duckdb/node-api");
  DuckDBInstance.create(process.argv[1], { access_mode: "READ_ONLY" }).then((instance) => {
    process.stdout.write("held");
    process.stdin.on("end", () => process.exit()).resume();
    globalThis.instance = instance;
  });
`;

const sinkOf = (readersMs?: number) =>
  duckdbSink({ file, readersMs, pipeline: "p", layouts: LAYOUTS });

describe("the accounting table", () => {
  it("has a column for every key, typed by its values, and is replaced as a whole", async () => {
    const sink = sinkOf();
    await sink.open();
    await sink.setAccounting({ rows: [{ old: 1 }] });
    await sink.setAccounting({
      rows: [
        { stream: "it's", records: 9_007_199_254_740_991, share: 0.5 },
        { table: "t", records: null, share: 1 },
      ],
    });
    await sink.close();
    const types = "SELECT column_name, column_type FROM (DESCRIBE accounting)";
    expect(await queryPlain(file, types)).toEqual([
      ["stream", "VARCHAR"],
      ["records", "BIGINT"],
      ["share", "DOUBLE"],
      ["table", "VARCHAR"],
    ]);
    expect(await queryPlain(file, "FROM accounting")).toEqual([
      ["it's", "9007199254740991", "0.5", null],
      [null, null, "1", "t"],
    ]);
  });
});

describe("the database file", () => {
  it("is refused when another program made it", async () => {
    const instance = await DuckDBInstance.create(file);
    const connection = await instance.connect();
    await connection.run("CREATE TABLE mine (a INTEGER)");
    connection.closeSync();
    instance.closeSync();
    await expect(sinkOf().open()).rejects.toMatchObject({
      code: "OUTPUT",
      message: expect.stringContaining("did not make"),
    });
    expect(await queryPlain(file, "FROM mine")).toEqual([]);
  });

  it("is refused when it is not a database", async () => {
    await fs.writeFile(file, "not a database".repeat(1000));
    await expect(sinkOf().open()).rejects.toMatchObject({ code: "OUTPUT" });
  });

  it("can be read by others between two openings, and keeps nothing of a failed call", async () => {
    const script = new Script().add(COUNTS, [count(0, "a", 1, 5)]);
    async function* failing() {
      yield* script.publications;
      throw new Error("the source broke");
    }
    const sink = sinkOf();
    await sink.open();
    await expect(sink.apply(failing(), 1)).rejects.toThrow(/^the source broke$/);
    await sink.close();
    expect(await queryPlain(file, 'FROM main."select"')).toEqual([]);
    expect(await sink.open()).toBe(0);
    await sink.apply(stream(script.publications), 1);
    await sink.close();
    expect(await queryPlain(file, 'SELECT "group" FROM main."select"')).toEqual([["a"]]);
  });

  it("is waited for while another process reads it", async () => {
    const sink = sinkOf(5_000);
    await sink.open();
    await sink.setAccounting({ rows: [] });
    await sink.close();
    const reader = spawn(process.execPath, ["-e", HOLD, file], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(reader.stdout, "data");
    const opened = sink.open();
    await expect(DuckDBInstance.create(file)).rejects.toThrow(/lock/);
    reader.stdin.end();
    expect(await opened).toBe(0);
    await sink.close();
  });
});
