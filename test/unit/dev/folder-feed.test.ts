/** Files of folders on their way to the ingest handler: which, when, and in which order. */
import { appendFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Folder, FolderFeed, folderObjects } from "../../../lib/dev/folder-feed.js";
import type { IngestedObject } from "../../../lib/handlers/ingest.js";
import { newObjects } from "../../../lib/sources/objects/object-event.js";

const LOOK_EVERY_MS = 5;

describe("a folder's files", () => {
  let dir: string;
  let feed: FolderFeed;
  let handed: string[];
  let troubles: string[];
  /** What the handler does with the next keys. */
  let answer: (key: string) => IngestedObject["outcome"];
  let looked: () => void;

  beforeEach(async () => {
    dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-feed-"));
    [handed, troubles] = [[], []];
    looked = () => undefined;
    answer = () => ({ kind: "ingested", records: 1, warnings: [] });
  });
  afterEach(async () => {
    await feed.stop();
    await fs.rm(dir, { recursive: true, force: true });
  });

  function start(folders: readonly Folder[] = [{ stream: "clicks", dir }]): void {
    feed = new FolderFeed({
      folders,
      handle: async (event) => {
        const [{ key = "" } = {}] = newObjects(event);
        handed.push(key.replace("incoming/clicks/", ""));
        const outcome = answer(key);
        looked();
        return [{ key, outcome }];
      },
      onTrouble: (error) => {
        troubles.push(error instanceof Error ? error.message : String(error));
        looked();
      },
      lookEveryMs: LOOK_EVERY_MS,
    });
  }

  /** Once `isSo`, looked at whenever something was handed over or said. */
  async function until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await new Promise<void>((resolve) => (looked = resolve));
  }

  async function drop(name: string, text = "{}\n", modifiedS = 1_000): Promise<void> {
    const file = path.join(dir, name);
    await fs.mkdir(path.dirname(file), { recursive: true });
    await fs.writeFile(file, text);
    await fs.utimes(file, modifiedS, modifiedS);
  }

  it("are handed over once, oldest first, from folders inside too", async () => {
    await drop("b.json", "{}", 3);
    await drop("in/side + #1/é.ndjson", "{}", 2);
    await drop("a.json", "{}", 3);
    start();
    await until(() => handed.length === 3);
    await drop("z.json", "{}", 1);
    await until(() => handed.length === 4);
    expect(handed).toEqual(["in/side + #1/é.ndjson", "a.json", "b.json", "z.json"]);
    expect(troubles).toEqual([]);
  });

  it("are passed over while their names say that they are not there yet", async () => {
    for (const name of [".a.json", "_b.json", "c.json.tmp", "d.json.part", "_temporary/e.json"]) {
      await drop(name);
    }
    await drop("real.json");
    start();
    await until(() => handed.length === 1);
    await fs.rename(path.join(dir, "c.json.tmp"), path.join(dir, "c.json"));
    await until(() => handed.length === 2);
    expect(handed).toEqual(["real.json", "c.json"]);
  });

  it("wait while they grow", async () => {
    await drop("growing.json");
    const other = path.join(dir, "_other");
    await drop("_other/never.json");
    let looks = 0;
    answer = (key) => {
      if (key.endsWith("growing.json")) return { kind: "ingested", records: 1, warnings: [] };
      // Called at every look, before the other folder's turn.
      if (++looks <= 5) appendFileSync(path.join(dir, "growing.json"), "{}\n");
      throw new Error("not taken");
    };
    start([
      { stream: "views", dir: other },
      { stream: "clicks", dir },
    ]);
    await until(() => handed.includes("growing.json"));
    expect(looks).toBeGreaterThan(5);
    expect((await fs.readFile(path.join(dir, "growing.json"))).toString()).toBe("{}\n".repeat(6));
  });

  it("are handed over again when they changed, and the refusal is said once", async () => {
    await drop("a.json");
    start();
    await until(() => handed.length === 1);
    answer = () => ({ kind: "rejected", reason: "its content has changed" });
    await drop("a.json", "{}\n{}\n", 2_000);
    await until(() => troubles.length === 1);
    await drop("b.json");
    await until(() => troubles.length === 2);
    expect(handed).toEqual(["a.json", "a.json", "b.json"]);
    expect(troubles[0]).toBe("its content has changed");
  });

  it("wait in their order behind one that could not be taken", async () => {
    await drop("1.json", "{}", 1);
    await drop("2.json", "{}", 2);
    let failures = 3;
    answer = () => {
      if (failures-- > 0) throw new Error("the store is down");
      return { kind: "already" };
    };
    start();
    await until(() => handed.includes("2.json"));
    expect(handed).toEqual(["1.json", "1.json", "1.json", "1.json", "2.json"]);
    expect(troubles).toEqual(Array(3).fill("the store is down"));
  });

  it("come again when their folder does", async () => {
    start();
    await fs.rm(dir, { recursive: true });
    await until(() => troubles.length > 0);
    await drop("a.json");
    await until(() => handed.length === 1);
    expect(troubles[0]).toMatch(/ENOENT/);
  });

  it("are found by the keys that a bucket would have", async () => {
    await drop("in/a.json", "0123456789");
    start();
    const objects = folderObjects([{ stream: "clicks", dir }]);
    const found = await objects.describe("incoming/clicks/in/a.json");
    expect(found).toMatchObject({ key: "incoming/clicks/in/a.json", bytes: 10 });
    expect(Buffer.from((await objects.range(found!, 2, 5)) ?? []).toString()).toBe("234");
    for (const key of ["incoming/views/in/a.json", "incoming/clicks/../../a", "in/a.json"]) {
      expect(await objects.describe(key)).toBeNull();
    }
  });
});
