/** DynamoDB and S3 behind a network that fails: lost replies, throttling, timeouts, conflicts. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CheckpointCell } from "../../lib/commit/cell.js";
import { PartitionCommitter } from "../../lib/commit/committer.js";
import { lakeSink } from "../../lib/sinks/lake.js";
import { S3LakeStorage } from "../../lib/sinks/s3-lake-storage.js";
import { DynamoDbCheckpointStore, dynamoDbClient } from "../../lib/stores/dynamodb.js";
import { openStores, type Stores } from "../../lib/stores/open-stores.js";
import { S3Bucket, S3Files } from "../../lib/stores/s3.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import {
  type Fault,
  type FaultyProxy,
  type ProxiedRequest,
  startFaultyProxy,
} from "../servers/faulty-proxy.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { readLake } from "./sinks-readers.js";
import { compareRows, LAYOUTS, randomOf, randomScript, stream } from "./sinks-script.js";

const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;

const THROTTLED: Fault = {
  status: 400,
  body: JSON.stringify({
    __type: "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
    message: "The level of configured provisioned throughput for the table was exceeded",
  }),
};
const xml = (code: string) => `<Error><Code>${code}</Code><Message>${code}</Message></Error>`;
const SLOW_DOWN: Fault = { status: 503, body: xml("SlowDown") };
const CONFLICT: Fault = { status: 409, body: xml("ConditionalRequestConflict") };

/** These faults for the first requests of an operation, then none. */
function first(operation: string, ...faults: Fault[]): (request: ProxiedRequest) => Fault | null {
  const left = [...faults];
  return (request) => (request.operation === operation ? (left.shift() ?? null) : null);
}

const always = (operation: string, fault: Fault) => (request: ProxiedRequest) =>
  request.operation === operation ? fault : null;

describe.skipIf(missing !== null)(title, () => {
  const scratch = mkdtempSync(path.join(tmpdir(), "millpond-aws-"));
  let aws: Ministack;
  let proxy: FaultyProxy;
  let env: Record<string, string>;
  let stores: Stores;

  beforeAll(async () => {
    aws = await startMinistack();
    proxy = await startFaultyProxy(aws.endpoint);
    env = await makeAwsResources(aws.env);
    const endpoints = { AWS_ENDPOINT_URL: proxy.endpoint, AWS_ENDPOINT_URL_S3: proxy.endpoint };
    Object.assign(process.env, aws.env, endpoints);
    stores = await openStores(env);
  });
  beforeEach(() => {
    proxy.plan = () => null;
    proxy.count = 0;
  });
  afterAll(async () => {
    await proxy.stop();
    await aws.stop();
    rmSync(scratch, { recursive: true, force: true });
  });

  describe("a checkpoint write", () => {
    const swap = async (id: string) => {
      const cell = new CheckpointCell(stores.checkpoints, id);
      await cell.read();
      const result = await cell.swap({ n: 1 }, Uint8Array.of(1), "mine");
      return { result, stored: await stores.checkpoints.read(id) };
    };

    for (const fault of ["drop", "lose", "hang", THROTTLED] as const) {
      const name = typeof fault === "string" ? fault : "throttling";
      it(`survives ${name}, and is known to be ours`, async () => {
        proxy.plan = first("PutItem", fault);
        const { result, stored } = await swap(`p/${name}`);
        expect(result.kind).toBe("committed");
        expect(stored).toMatchObject({ generation: 1, commitId: "mine", attributes: { n: 1 } });
      });
    }

    it("says conflict when the SDK's retry met its own success; the cell knows", async () => {
      proxy.plan = first("PutItem", "lose");
      const item = { generation: 1, commitId: "mine", attributes: {}, payload: new Uint8Array() };
      expect(await stores.checkpoints.compareAndSwap("p/own", item)).toBe("conflict");
      expect((await stores.checkpoints.read("p/own"))?.commitId).toBe("mine");
    });

    it("is read again when a reply stalls", async () => {
      const item = { generation: 1, commitId: "a", attributes: {}, payload: new Uint8Array(4000) };
      await stores.checkpoints.compareAndSwap("p/stalls", item);
      proxy.plan = first("GetItem", "stall");
      expect((await stores.checkpoints.read("p/stalls"))?.commitId).toBe("a");
    });

    it("survives throttling that lasts, and gives up when it does not end", async () => {
      proxy.plan = first("PutItem", ...Array.from({ length: 3 }, () => THROTTLED));
      expect((await swap("p/throttled")).result.kind).toBe("committed");
      proxy.plan = always("PutItem", THROTTLED);
      const item = { generation: 1, commitId: "x", attributes: {}, payload: new Uint8Array() };
      await expect(stores.checkpoints.compareAndSwap("p/forever", item)).rejects.toMatchObject({
        code: "STORAGE",
        message: expect.stringMatching(
          /cannot write checkpoint "p\/forever" in DynamoDB table.*Throughput.*raise the table/s,
        ),
      });
      expect(await stores.checkpoints.read("p/forever")).toBeNull();
    });

    it("is resolved by reading when every reply was lost", async () => {
      proxy.plan = always("PutItem", "lose");
      const { result, stored } = await swap("p/all-lost");
      expect(result.kind).toBe("committed");
      expect(stored?.commitId).toBe("mine");
    });

    it("loses to another's, and says so, though its reply was lost", async () => {
      const cell = new CheckpointCell(stores.checkpoints, "p/contended");
      await cell.read();
      const other = { generation: 1, commitId: "b", attributes: {}, payload: new Uint8Array() };
      await stores.checkpoints.compareAndSwap("p/contended", other);
      proxy.plan = first("PutItem", "lose", "lose");
      expect(await cell.swap({}, new Uint8Array())).toEqual({ kind: "conflict", fate: "lost" });
    });

    it("names a missing table and what to do", async () => {
      const none = new DynamoDbCheckpointStore("no-such-table");
      await expect(none.read("p/x")).rejects.toMatchObject({
        code: "STORAGE",
        message: expect.stringMatching(/"no-such-table".*deploy the stack/s),
      });
    });

    it("is refused for an id that DynamoDB has no room for", async () => {
      await expect(stores.checkpoints.read(`p/${"x".repeat(1025)}`)).rejects.toMatchObject({
        code: "LIMIT",
      });
    });
  });

  it("checkpoints are read consistently, item by item and in lists", async () => {
    const bodies: unknown[] = [];
    const client = new DynamoDbCheckpointStore(env.MILLPOND_STATE_TABLE ?? "", recording(bodies));
    await client.read("p/x");
    await client.list("p/x");
    await client.list("p");
    expect(bodies).toHaveLength(3);
    for (const body of bodies) expect(body).toMatchObject({ ConsistentRead: true });
  });

  describe("an object", () => {
    const bytes = Buffer.from("a body of some length, so that half of it is something");

    for (const fault of ["drop", "lose", "hang", CONFLICT, SLOW_DOWN, "flipRequest"] as const) {
      const name = typeof fault === "string" ? fault : fault.status;
      it(`is created once through ${name}, and not again`, async () => {
        proxy.plan = first("PUT", fault);
        expect(await stores.objects.putIfAbsent(`o/${name}`, bytes)).toBe("created");
        expect(await stores.objects.putIfAbsent(`o/${name}`, Buffer.from("other"))).toBe("exists");
        expect(Buffer.from((await stores.objects.get(`o/${name}`)) ?? [])).toEqual(bytes);
      });
    }

    for (const fault of ["drop", "lose", "hang", "cut", "stall", "flip", SLOW_DOWN] as const) {
      const name = typeof fault === "string" ? fault : fault.status;
      it(`is read whole and right through ${name}`, async () => {
        await stores.objects.putIfAbsent(`r/${name}`, bytes);
        proxy.plan = first("GET", fault);
        expect(Buffer.from((await stores.objects.get(`r/${name}`)) ?? [])).toEqual(bytes);
      });
    }

    it("is given up when a conflict does not end", async () => {
      proxy.plan = always("PUT", CONFLICT);
      await expect(stores.objects.putIfAbsent("o/forever", bytes)).rejects.toMatchObject({
        code: "STORAGE",
        message: expect.stringMatching(/cannot write "state\/o\/forever" in S3 bucket/),
      });
      expect(await stores.objects.get("o/forever")).toBeNull();
    });

    it("and thousands more are deleted at once, none waiting so long that it fails", async () => {
      const keys = Array.from({ length: 4_000 }, (_, n) => `o/many/${n}`);
      await Promise.all(keys.map((key) => stores.objects.delete(key)));
      expect(proxy.count).toBe(keys.length);
    });

    it("names a missing bucket and what to do", async () => {
      await expect(new S3Bucket("no-such-bucket").put("k", bytes)).rejects.toMatchObject({
        code: "STORAGE",
        message: expect.stringMatching(/"no-such-bucket".*deploy the stack/s),
      });
    });
  });

  describe("a file", () => {
    const source = path.join(scratch, "source");
    const target = path.join(scratch, "target");
    const bytes = Buffer.alloc(3_000_001, "some text that repeats, ");
    const newFiles = () => new S3Files(new S3Bucket(env.MILLPOND_BUCKET ?? ""), "db/");
    beforeAll(() => writeFileSync(source, bytes));

    for (const fault of [
      null,
      "drop",
      "lose",

      CONFLICT,
      SLOW_DOWN,
      "flipRequest",
    ] as const) {
      const name = typeof fault === "string" ? fault : (fault?.status ?? "no fault");
      it(`is replaced only from the version that was read, through ${name}`, async () => {
        const [files, key] = [newFiles(), `file/${name}`];
        const plan = () => {
          if (fault !== null) proxy.plan = first("PUT", fault);
        };
        expect(await files.download(key, target)).toBeNull();
        plan();
        expect(await files.upload(key, source, null)).toBe("written");
        expect(await files.upload(key, source, null)).toBe("conflict");
        const etag = await files.download(key, target);
        expect(etag).toBe(await files.etag(key));
        expect(readFileSync(target).equals(bytes)).toBe(true);
        writeFileSync(target, "second");
        plan();
        expect(await files.upload(key, target, etag)).toBe("written");
        expect(await files.upload(key, source, etag)).toBe("conflict");
        await files.download(key, target);
        expect(readFileSync(target, "utf8")).toBe("second");
      });
    }

    for (const fault of ["drop", "lose", "cut", "stall", "flip"] as const) {
      it(`is downloaded whole and right through ${fault}`, async () => {
        const [files, key] = [newFiles(), `down/${fault}`];
        await files.upload(key, source, null);
        proxy.plan = first("GET", fault);
        expect(await files.download(key, target)).toBe(await files.etag(key));
        expect(readFileSync(target).equals(bytes)).toBe(true);
      });
    }

    it("that was deleted meanwhile is a conflict", async () => {
      const files = newFiles();
      expect(await files.upload("gone", source, '"0123"')).toBe("conflict");
    });
  });

  it("a lake on S3 whose every write loses its first reply holds the same rows", async () => {
    const script = randomScript(5, 40);
    const bucket = new S3Bucket(env.MILLPOND_BUCKET ?? "");
    const storage = new S3LakeStorage(bucket, "lake/p/", path.join(scratch, "lake"));
    const sink = lakeSink({ dir: "the bucket", pipeline: "p", layouts: LAYOUTS, storage });
    const seen = new Set<string>();
    proxy.plan = ({ method, path: url }) => {
      if (method !== "PUT" || seen.has(url)) return null;
      seen.add(url);
      return "lose";
    };
    await sink.open();
    for (let done = 0; done < 40; done += 4) {
      await sink.apply(stream(script.publications.slice(done, done + 4)), done + 4);
    }
    await sink.close();
    proxy.plan = () => null;
    expect(seen.size).toBeGreaterThan(20);
    const copy = path.join(scratch, "copy");
    for (const { key } of await bucket.list("lake/p/")) {
      const file = path.join(copy, key.slice("lake/p/".length));
      mkdirSync(path.dirname(file), { recursive: true });
      await bucket.download(key, file);
    }
    for (const layout of LAYOUTS) {
      expect((await readLake(copy, layout)).sort(compareRows)).toEqual(script.expected(layout));
    }
  });

  it("what was committed is there after the emulator was restarted", async () => {
    const item = { generation: 1, commitId: "a", attributes: {}, payload: Uint8Array.of(1) };
    await stores.checkpoints.compareAndSwap("restart/p", item);
    await stores.objects.putIfAbsent("restart/o", Uint8Array.of(2));
    await aws.restart();
    expect(await stores.checkpoints.compareAndSwap("restart/p", item)).toBe("conflict");
    expect((await stores.checkpoints.read("restart/p"))?.commitId).toBe("a");
    expect(await stores.objects.putIfAbsent("restart/o", Uint8Array.of(3))).toBe("exists");
    expect([...((await stores.objects.get("restart/o")) ?? [])]).toEqual([2]);
  });

  for (const seed of [1, Math.floor(Math.random() * 1e9)]) {
    it(`two committers count right through random faults (seed ${seed})`, async () => {
      const random = randomOf(seed);
      const faults: Fault[] = ["drop", "lose", THROTTLED, SLOW_DOWN, CONFLICT];
      proxy.plan = ({ method, operation }) => {
        const s3 = operation === method;
        const fault = faults[random(faults.length)] ?? null;
        if (random(4) > 0) return null;
        if (fault === THROTTLED && s3) return null;
        if (fault === SLOW_DOWN && !s3) return null;
        return fault === CONFLICT && operation !== "PUT" ? null : fault;
      };
      const id = `soak-${seed}/partitions/s/0`;
      const acknowledged = await Promise.all([count(stores, id), count(await openStores(env), id)]);
      proxy.plan = () => null;
      const { checkpoint, chunks } = await committerOf(stores, id).load();
      expect(checkpoint).toMatchObject({ generation: UNTIL, nextOffset: UNTIL });
      expect(chunks.map((chunk) => chunk[0])).toEqual(pieces(UNTIL));
      const all = acknowledged.flat();
      expect(new Set(all).size).toBe(all.length);
      const sequences = checkpoint?.outbox.map(({ sequence }) => sequence);
      expect(sequences).toEqual(Array.from({ length: UNTIL / 5 }, (_, n) => n + 1));
      for (const { key } of checkpoint?.outbox ?? []) {
        expect(await stores.objects.get(key)).not.toBeNull();
      }
    });
  }
});

/** A client that notes what it is asked to do. */
function recording(inputs: unknown[]) {
  const client = dynamoDbClient();
  client.middlewareStack.add(
    (next) => (args) => {
      inputs.push(args.input);
      return next(args);
    },
    { step: "initialize" },
  );
  return client;
}

const UNTIL = 40;
const PIECE_BYTES = 1500;

/** State pieces after so many commits: every tenth is a base. */
function pieces(commits: number): number[] {
  const base = commits - (commits % 10);
  return Array.from({ length: commits - base + 1 }, (_, n) => base + n);
}

function committerOf({ checkpoints, objects }: Stores, id: string): PartitionCommitter {
  return new PartitionCommitter({ checkpoints, objects, id, definitionHash: "h" });
}

/** Commit 1, 2, 3, … beside another who does; returns the commits that were acknowledged here. */
async function count(stores: Stores, id: string): Promise<number[]> {
  const committer = committerOf(stores, id);
  const acknowledged: number[] = [];
  let done: number | null = null;
  while (done === null || done < UNTIL) {
    try {
      done ??= (await committer.load()).checkpoint?.nextOffset ?? 0;
      if (done >= UNTIL) break;
      const next: number = done + 1;
      const result = await committer.commit({
        nextOffset: next,
        maxEventTime: null,
        position: null,
        meta: {},
        state: {
          kind: next % 10 === 0 ? "base" : "delta",
          bytes: new Uint8Array(PIECE_BYTES).fill(next),
        },
        outbox: next % 5 === 0 ? Uint8Array.of(next) : null,
        releaseOutboxUpTo: 0,
      });
      if (result.kind === "committed") acknowledged.push(next);
      done = result.kind === "committed" ? next : null;
    } catch (error) {
      expect(error).toMatchObject({ code: "STORAGE" });
      done = null;
    }
  }
  return acknowledged;
}
