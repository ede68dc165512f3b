/** Which files are read, as which partitions, and which paths are refused. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { assignPartitions, openFileSources } from "../../../lib/sources/files/index.js";
import { scratch, streamOf, write } from "./files-support.js";

const dir = await scratch();
const none = new Map<string, number>();

test("new files are numbered in byte order of their names", () => {
  const { partitions } = assignPartitions(["b.csv", "a.csv", "B.csv", "\u{1f600}", "\uffee"], none);
  expect([...partitions]).toEqual([
    ["B.csv", 0],
    ["a.csv", 1],
    ["b.csv", 2],
    ["\uffee", 3],
    ["\u{1f600}", 4],
  ]);
});

test("a known file keeps its number when others come before it or vanish", () => {
  const known = new Map([
    ["m.csv", 0],
    ["x.csv", 3],
  ]);
  const { partitions, missing } = assignPartitions(["a.csv", "x.csv"], known);
  expect(Object.fromEntries(partitions)).toEqual({ "m.csv": 0, "x.csv": 3, "a.csv": 4 });
  expect(missing).toEqual(["m.csv"]);
});

test("a directory gives one partition a file, without hidden and underscored ones", async () => {
  const input = join(dir, "input");
  await mkdir(join(input, "_old"), { recursive: true });
  for (const name of ["b.ndjson", "a.csv", "c.parquet", ".hidden", "_notes.txt"]) {
    await write(input, name, "");
  }
  const known = new Map([["b.ndjson", 0]]);
  const { sources } = await openFileSources({ path: input, stream: streamOf(), known });
  expect(sources.map(({ fileName, partition, topic }) => [fileName, partition, topic])).toEqual([
    ["a.csv", 1, "events"],
    ["b.ndjson", 0, "events"],
    ["c.parquet", 2, "events"],
  ]);
  for (const source of sources) {
    const reader = await source.open(0, null);
    expect(await reader.read(10)).toBeNull();
    await reader.close();
  }
});

test("what cannot be read is refused by name", async () => {
  const open = (path: string) => openFileSources({ path, stream: streamOf(), known: none });
  const input = join(dir, "refused");
  await mkdir(join(input, "nested"), { recursive: true });
  await expect(open(input)).rejects.toThrow(/nested is a directory/);
  const unknown = await write(dir, "table.xlsx", "");
  await expect(open(unknown)).rejects.toThrow(/table\.xlsx is in no format.*\.ndjson.*\.parquet/);
  await expect(open(join(dir, "absent"))).rejects.toMatchObject({ code: "INPUT" });
  const { sources } = await open(await write(dir, "lost.ndjson", "{}\n"));
  await expect(sources[0]!.open(5, null)).rejects.toThrow(/without a position/);
});
