/** Which stores the environment opens, and what is refused. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { build } from "esbuild";
import { afterAll, describe, expect, it } from "vitest";
import { FileCheckpointStore } from "../../../lib/stores/files.js";
import { openStores } from "../../../lib/stores/open-stores.js";

const dir = mkdtempSync(path.join(tmpdir(), "millpond-open-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const AWS = { MILLPOND_STORE: "aws", MILLPOND_STATE_TABLE: "table", MILLPOND_BUCKET: "bucket" };

describe("stores are opened", () => {
  it("on a directory, in the layout of a local run's output", async () => {
    const stores = await openStores({ MILLPOND_STORE: `file:${dir}` });
    const item = { generation: 1, commitId: "a", attributes: {}, payload: new Uint8Array() };
    await stores.checkpoints.compareAndSwap("p/publisher", item);
    const local = new FileCheckpointStore(path.join(dir, "state", "checkpoints"));
    expect(await local.list("")).toEqual(["p/publisher"]);
    await stores.lake("p").put("t/_delta_log/_last_checkpoint", Buffer.from("x"));
    expect(stores.lake("p").uri("t/a")).toBe(path.join(dir, "lake", "t", "a"));
    expect(stores.database("p")).toEqual({
      kind: "file",
      file: path.join(dir, "results.duckdb"),
    });
    expect(stores.bucket).toBeNull();
  });

  it("on AWS, under a prefix of the bucket", async () => {
    const stores = await openStores({ ...AWS, MILLPOND_PREFIX: "a/b/" });
    expect(stores.lake("p").uri("t/x")).toBe("s3://bucket/a/b/lake/p/t/x");
    const database = stores.database("p");
    expect(database).toMatchObject({ kind: "s3", key: "databases/p.duckdb" });
    const uri = database.kind === "s3" && database.files.uri(database.key);
    expect(uri).toBe("s3://bucket/a/b/databases/p.duckdb");
    expect(stores.bucket?.prefix).toBe("a/b/");
    expect(stores.lake("p").tempDir).not.toBe(stores.lake("p").tempDir);
  });

  it.each([
    [{}, /MILLPOND_STORE is not set, expected "aws" or "file:/],
    [{ MILLPOND_STORE: "s3" }, /MILLPOND_STORE is "s3", expected/],
    [{ MILLPOND_STORE: "file:" }, /MILLPOND_STORE is "file:", expected/],
    [{ ...AWS, MILLPOND_STATE_TABLE: "" }, /MILLPOND_STATE_TABLE is not set/],
    [{ ...AWS, MILLPOND_BUCKET: undefined }, /MILLPOND_BUCKET is not set/],
    [{ ...AWS, MILLPOND_PREFIX: "a" }, /MILLPOND_PREFIX is "a", expected/],
    [{ ...AWS, MILLPOND_PREFIX: "/a/" }, /MILLPOND_PREFIX/],
  ])("not for %j, with what to set", async (env, message) => {
    await expect(openStores(env)).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(message),
    });
  });

  it("without loading AWS's SDK for a directory, nor DuckDB for either", async () => {
    const { metafile } = await build({
      entryPoints: ["lib/stores/open-stores.ts"],
      bundle: true,
      splitting: true,
      outdir: "out",
      write: false,
      metafile: true,
      platform: "node",
      format: "esm",
      mainFields: ["module", "main"],
    });
    const inputs = Object.keys(metafile.inputs);
    expect(inputs.filter((name) => /duckdb.*node|node-bindings/.test(name))).toEqual([]);
    const outputs = Object.values(metafile.outputs);
    const entry = outputs.find(({ entryPoint }) => entryPoint === "lib/stores/open-stores.ts");
    const chunks = (entry?.imports ?? [])
      .filter(({ kind }) => kind === "import-statement")
      .map((chunk) => metafile.outputs[chunk.path]);
    const atOnce = [entry, ...chunks].flatMap((output) => Object.keys(output?.inputs ?? {}));
    expect(atOnce.length).toBeGreaterThan(3);
    expect(atOnce.filter((name) => /@aws-sdk|@smithy/.test(name))).toEqual([]);
  });
});
