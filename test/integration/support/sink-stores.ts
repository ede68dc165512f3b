/**
 * Stores for the sink in memory and in a temporary directory, in the form that the bucket's have,
 * with a fault at any step of any of them.
 */
import { createHash, randomUUID } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { quoteName } from "../../../lib/sinks/duckdb-types.js";
import { LocalLakeStorage } from "../../../lib/sinks/lake-storage.js";
import { MemoryCheckpointStore, MemoryObjectStore } from "../../../lib/stores/memory.js";
import type { Stores } from "../../../lib/stores/open-stores.js";

// The sink opens the bucket's database with DuckDB, which asks for credentials and never uses them.
Object.assign(process.env, {
  AWS_ACCESS_KEY_ID: "none",
  AWS_SECRET_ACCESS_KEY: "none",
  AWS_REGION: "us-east-1",
});

export type SinkStores = Pick<Stores, "checkpoints" | "objects" | "lake" | "database">;

/** Called before and after every step; throwing in `after` loses the reply of what was done. */
export interface StepHook {
  /** What it returns is given to `after` of the same step. */
  before?(step: string): unknown;
  after?(step: string, ticket: unknown): unknown;
}

export class SinkBed {
  readonly #dir: string;
  readonly #checkpoints = new MemoryCheckpointStore();
  readonly #objects = new MemoryObjectStore();

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async create(): Promise<SinkBed> {
    return new SinkBed(await mkdtemp(join(tmpdir(), "millpond-sink-")));
  }

  remove(): Promise<void> {
    return rm(this.#dir, { recursive: true, force: true });
  }

  /** One process's view of the stores. */
  stores(hook: StepHook = {}): SinkStores {
    const tempDir = join(this.#dir, "tmp", randomUUID());
    const files = this.#files();
    return {
      checkpoints: hooked("checkpoints", this.#checkpoints, hook),
      objects: hooked("objects", this.#objects, hook),
      lake: () => hooked("lake", new LocalLakeStorage(join(this.#dir, "lake"), tempDir), hook),
      database: (pipeline) => ({
        kind: "s3",
        files: hooked("database", files, hook),
        key: `${pipeline}.duckdb`,
      }),
    };
  }

  #files() {
    const at = (key: string) => join(this.#dir, "databases", key);
    const etag = async (key: string) => {
      const bytes = await readFile(at(key)).catch(() => null);
      return bytes === null ? null : createHash("md5").update(bytes).digest("hex");
    };
    return {
      uri: at,
      etag,
      async download(key: string, file: string) {
        const found = await etag(key);
        if (found !== null) await copyFile(at(key), file);
        return found;
      },
      async upload(key: string, file: string, expected: string | null) {
        if ((await etag(key)) !== expected) return "conflict" as const;
        await mkdir(join(at(key), ".."), { recursive: true });
        await copyFile(file, at(key));
        return "written" as const;
      },
    };
  }

  /** Every table and view of the database, rows as sorted text. */
  async dump(pipeline: string): Promise<Record<string, string[]>> {
    const file = join(this.#dir, "databases", `${pipeline}.duckdb`);
    const instance = await DuckDBInstance.create(file, { access_mode: "READ_ONLY", threads: "1" });
    try {
      const connection = await instance.connect();
      await connection.run("SET TimeZone = 'UTC'");
      const names = await connection.runAndReadAll(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' ORDER BY 1",
      );
      const tables: Record<string, string[]> = {};
      for (const [name] of names.getRows()) {
        const reader = await connection.runAndReadAll(`FROM main.${quoteName(String(name))}`);
        const rows = reader.getRowObjectsJson().map((row) => JSON.stringify(row));
        tables[String(name)] = rows.sort((a, b) => (a < b ? -1 : 1));
      }
      return tables;
    } finally {
      instance.closeSync();
    }
  }
}

/** The object, each of whose asynchronous methods calls the hook. */
function hooked<T extends object>(what: string, target: T, hook: StepHook): T {
  return new Proxy(target, {
    get(_, name) {
      const value: unknown = Reflect.get(target, name, target);
      const isStep = typeof value === "function" && name !== "uri" && name !== "withLocal";
      if (!isStep) return typeof value === "function" ? value.bind(target) : value;
      return async (...given: unknown[]) => {
        const step = `${what}.${String(name)} ${String(given[0])}`;
        const ticket = await hook.before?.(step);
        const result = await value.apply(target, given);
        await hook.after?.(step, ticket);
        return result;
      };
    },
  });
}

export class Injected extends Error {}

/** Counts steps; at step `at` it fails, and, as a process that died, at every one after it. */
export function faultAt(at: number, moment: "before" | "after", dies: boolean) {
  const state = { steps: 0, hasFailed: false };
  const check = (index: number, now: "before" | "after", step: string) => {
    if (!(index === at && now === moment) && !(dies && state.hasFailed)) return;
    state.hasFailed = true;
    throw new Injected(`injected ${moment} step ${index}: ${step}`);
  };
  return {
    state,
    hook: {
      before(step: string) {
        const index = state.steps++;
        check(index, "before", step);
        return index;
      },
      after: (step: string, index: unknown) => check(Number(index), "after", step),
    } satisfies StepHook,
  };
}
