/** The store contract over local files, and what only files suffer: other processes, kill -9. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { PartitionCommitter, readOutbox } from "../../lib/commit/committer.js";
import { FileCheckpointStore, FileObjectStore } from "../../lib/stores/files.js";
import { storageError } from "../../lib/stores/fs-errors.js";
import { compareKeys } from "../../lib/stores/keys.js";
import { CLIENTS, describeStores } from "./stores.js";

const ID = "hammered/p-0";
const root = mkdtempSync(join(tmpdir(), "millpond-stores-"));
const childFile = join(root, "child.mjs");
let dir: string;

beforeAll(async () => {
  await build({
    entryPoints: [fileURLToPath(new URL("./file-stores-child.ts", import.meta.url))],
    outfile: childFile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
  });
});
beforeEach(() => {
  dir = mkdtempSync(join(root, "out-"));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describeStores("file stores", async () => {
  const own = mkdtempSync(join(root, "contract-"));
  return {
    checkpoints: Array.from({ length: CLIENTS }, () => new FileCheckpointStore(own)),
    objects: Array.from({ length: CLIENTS }, () => new FileObjectStore(own)),
    cleanup: async () => rmSync(own, { recursive: true, force: true }),
  };
});

interface Child {
  readonly process: ChildProcess;
  output: string;
  errors: string;
}

function start(until: number, name: string, prefix: readonly string[] = []): Child {
  const [command = "", ...args] = [...prefix, process.execPath, childFile, dir, `${until}`, name];
  const started = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  const child: Child = { process: started, output: "", errors: "" };
  started.stdout.setEncoding("utf8").on("data", (text: string) => {
    child.output += text;
  });
  started.stderr.setEncoding("utf8").on("data", (text: string) => {
    child.errors += text;
  });
  return child;
}

function committerHere(): PartitionCommitter {
  return new PartitionCommitter({
    checkpoints: new FileCheckpointStore(dir),
    objects: new FileObjectStore(dir),
    id: ID,
    definitionHash: "h",
  });
}

/** Everything that must hold after `commits` commits of the child's counter, whoever made them. */
async function checkCounter(minimum: number): Promise<number> {
  const { checkpoint, chunks } = await committerHere().load();
  const commits = checkpoint?.nextOffset ?? 0;
  expect(commits).toBeGreaterThanOrEqual(minimum);
  expect(checkpoint?.generation ?? 0).toBe(commits);
  const lastBase = commits - (commits % 50);
  const pieces = Array.from({ length: commits - lastBase + 1 }, (_, index) => lastBase + index);
  expect(chunks.map((chunk) => chunk[0])).toEqual(
    pieces.filter((piece) => piece > 0).map((piece) => piece % 256),
  );
  const objects = new FileObjectStore(dir);
  const outbox = await Promise.all(
    (checkpoint?.outbox ?? []).map(async (entry) =>
      Number(Buffer.from(await readOutbox(objects, entry)).toString()),
    ),
  );
  expect(outbox).toEqual(Array.from({ length: Math.floor(commits / 10) }, (_, i) => 10 * (i + 1)));
  return commits;
}

function generationsOf(output: string): number[] {
  const lines = output.split("\n").slice(0, -1);
  return lines.map((line) => Number(line.split(" ")[0]));
}

describe("file stores with several processes", () => {
  it("commit each generation once when three processes hammer one directory", async () => {
    const until = 600;
    const children = ["a", "b", "c"].map((name) => start(until, name));
    await Promise.all(children.map((child) => once(child.process, "close")));
    expect(children.map((child) => child.errors)).toEqual(["", "", ""]);
    expect(await checkCounter(until)).toBe(until);
    const acknowledged = children.flatMap((child) => generationsOf(child.output));
    expect(new Set(acknowledged).size).toBe(acknowledged.length);
    const leftovers = readdirSync(join(dir, ".tmp"));
    expect(leftovers).toEqual([]);
  });

  it("keep every acknowledged commit through kill -9 at random moments", async () => {
    const seed = Date.now() % 2 ** 31;
    console.info(`seed ${seed}`);
    let random = seed;
    let commits = 0;
    for (let round = 0; round < 12; round++) {
      random = (random * 48_271) % 2_147_483_647;
      const child = start(Number.MAX_SAFE_INTEGER, `round ${round}`);
      const killAfterBytes = random % 4_000;
      child.process.stdout?.on("data", () => {
        if (child.output.length > killAfterBytes) child.process.kill("SIGKILL");
      });
      await once(child.process, "close");
      expect(child.errors).toBe("");
      commits = await checkCounter(Math.max(commits, ...generationsOf(child.output)));
    }
    const committer = committerHere();
    await committer.load();
    await committer.sweep(async () => new Set());
    const { checkpoint } = await committer.load();
    const used = [...(checkpoint?.state.objects ?? []), ...(checkpoint?.outbox ?? [])];
    expect(await new FileObjectStore(dir).list("")).toEqual(
      used.map(({ key }) => key).sort(compareKeys),
    );
  });
});

describe("file stores on a troubled disk", () => {
  it("say so when a file grows beyond what may be written, and show no part of it", async () => {
    // 64 KiB (in units of 1,024 bytes): the first bases need more.
    const limited = start(100, "limited", ["bash", "-c", 'ulimit -f 64; exec "$@"', "bash"]);
    await once(limited.process, "close");
    expect(limited.errors).toMatch(/MillpondError.*(larger than this process may write|disk)/s);
    expect(await checkCounter(1)).toBeLessThan(50);
    expect(readdirSync(join(dir, ".tmp"))).toEqual([]);
  });

  it.each([
    ["ENOSPC", /disk is full.*free some space/],
    ["EDQUOT", /quota/],
    ["EACCES", /access is denied/],
    ["EROFS", /read-only/],
    ["EIO", /i\/o failed.*check the disk/],
  ])("turn %s into an error that says what to do", (code, message) => {
    const error = storageError("write", "/out/x", Object.assign(new Error("i/o failed"), { code }));
    expect(error.code).toBe("STORAGE");
    expect(error.message).toMatch(message);
    expect(error.message).toContain("/out/x");
  });

  it("refuse a directory that is a file", () => {
    const path = join(dir, "file");
    writeFileSync(path, "");
    expect(() => new FileObjectStore(path)).toThrow(/cannot be made.*is not a directory/);
  });

  it("name a damaged checkpoint's file, wherever the damage is", async () => {
    const store = new FileCheckpointStore(dir);
    const payload = Buffer.from("payload");
    await store.compareAndSwap("x", { generation: 1, commitId: "c", attributes: {}, payload });
    const path = join(dir, "x", readdirSync(join(dir, "x"))[0] ?? "");
    const whole = readFileSync(path);
    for (let index = 0; index < whole.length; index++) {
      const broken = Buffer.from(whole);
      broken[index] = (broken[index] ?? 0) ^ 0x10;
      writeFileSync(path, broken);
      await expect(store.read("x")).rejects.toThrow(`${path} is damaged`);
    }
    for (const length of [0, 3, 16, whole.length - 1]) {
      writeFileSync(path, whole.subarray(0, length));
      await expect(store.read("x")).rejects.toMatchObject({ code: "STORAGE" });
    }
    writeFileSync(path, whole);
    expect((await store.read("x"))?.commitId).toBe("c");
  });

  it("ignore leftovers of killed writers, and remove them when they are an hour old", async () => {
    const temporary = join(dir, ".tmp");
    mkdirSync(temporary);
    for (const name of ["old", "young"]) writeFileSync(join(temporary, name), "half");
    const hourAgo = Date.now() / 1000 - 3_700;
    utimesSync(join(temporary, "old"), hourAgo, hourAgo);
    expect(await new FileObjectStore(dir).list("")).toEqual([]);
    expect(await new FileCheckpointStore(dir).list("")).toEqual([]);
    expect(readdirSync(temporary)).toEqual(["young"]);
  });

  it("ignore files that are not theirs", async () => {
    mkdirSync(join(dir, "Notes"));
    writeFileSync(join(dir, "Notes", "x.object"), "");
    writeFileSync(join(dir, "README.txt"), "");
    expect(await new FileObjectStore(dir).list("")).toEqual([]);
  });

  it("refuse keys that no path can hold", async () => {
    const store = new FileObjectStore(dir);
    for (const key of ["", "/a", "a//b", "a/", "\ud800"]) {
      await expect(store.get(key)).rejects.toMatchObject({ code: "USAGE" });
    }
  });
});

describe("a file checkpoint writer that slept while others committed", () => {
  const make = (generation: number, attributes = {}) => ({
    generation,
    commitId: `g${generation}`,
    attributes,
    payload: new Uint8Array(),
  });

  it("is refused, though the name of its generation is free again", async () => {
    const store = new FileCheckpointStore(dir);
    for (let generation = 1; generation <= 6; generation++) {
      await store.compareAndSwap("x", make(generation));
    }
    for (let generation = 1; generation <= 6; generation++) {
      expect(await store.compareAndSwap("x", make(generation))).toBe("conflict");
    }
    expect(readdirSync(join(dir, "x"))).toHaveLength(2);
    expect((await store.read("x"))?.commitId).toBe("g6");
  });

  it.each([1, 2, 3, 4])("never claims success when it slept for %i commits", async (others) => {
    const store = new FileCheckpointStore(dir);
    const other = new FileCheckpointStore(dir);
    await store.compareAndSwap("x", make(1));
    const swaps: Promise<string>[] = [];
    // The store turns attributes to JSON after its first look at the directory and before its link.
    const toJSON = () => {
      for (let n = 0; n < others; n++) swaps.push(other.compareAndSwap("x", make(2 + n)));
      return {};
    };
    const slept = store.compareAndSwap("x", { ...make(2, { toJSON }), commitId: "slept" });
    if (others < 3) expect(await slept).toBe("conflict");
    else await expect(slept).rejects.toThrow(/unknown/);
    expect(await Promise.all(swaps)).toEqual(Array.from({ length: others }, () => "committed"));
    expect((await store.read("x"))?.commitId).toBe(`g${others + 1}`);
    expect(await store.compareAndSwap("x", make(others + 2))).toBe("committed");
    expect((await store.read("x"))?.commitId).toBe(`g${others + 2}`);
    expect(readdirSync(join(dir, "x"))).toHaveLength(2);
  });
});
