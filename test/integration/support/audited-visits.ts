/** A small output to audit, and ways to run, change and audit it. */
import { join } from "node:path";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import { afterEach, beforeEach } from "vitest";
import { type AuditOptions, type AuditReport, audit } from "../../../lib/audit/audit.js";
import { openOutput } from "../../../lib/audit/place.js";
import type { Pipeline } from "../../../lib/define/definition.js";
import {
  bigint,
  count,
  duckdb,
  lake,
  pipeline,
  seconds,
  session,
  sliding,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
} from "../../../lib/index.js";
import { outputPaths } from "../../../lib/runtime/output.js";
import { keptReferences } from "../../../lib/runtime/references.js";
import { Workspace } from "./check.js";

export const TOPIC = "visits";

export const visits = stream(TOPIC, {
  schema: { id: string(), user: string(), n: bigint(), at: timestamp({ format: "epoch_s" }) },
  key: "user",
  eventTime: "at",
  lateness: seconds(5),
  dedup: "id",
});

export const tables = {
  tens: visits
    .groupBy("user")
    .window(tumbling(seconds(10)))
    .aggregate({ hits: count(), total: sum("n") }),
  rolling: visits.window(sliding(seconds(10), { every: seconds(5) })).aggregate({ hits: count() }),
  stays: visits
    .groupBy("user")
    .window(session(seconds(4)))
    .aggregate({ hits: count() }),
  clean: visits.filter((e) => e.n.gte(0)),
};
export const SINKS = [lake(), duckdb()];
export const plain = pipeline("visits", tables, { sinks: SINKS });

/** Partition 0: offset 3 is a duplicate, 5 comes late for everything, 6 is no record. */
export const LOGS = [
  [
    { id: "a", user: "ann", n: 1, at: 100 },
    { id: "b", user: "ann", n: 2, at: 103 },
    { id: "c", user: "bob", n: 3, at: 112 },
    { id: "a", user: "ann", n: 1, at: 100 },
    { id: "d", user: "ann", n: 5, at: 140 },
    { id: "e", user: "bob", n: 7, at: 113 },
    { id: "f", user: "bob" },
    { id: "g", user: "bob", n: -1, at: 141 },
  ],
  [
    { id: "x", user: "eve", n: 10, at: 101 },
    { id: "y", user: "eve", n: 20, at: 139 },
    { id: "z", user: "eve", n: 30, at: 170 },
  ],
].map((records) => records.map((record) => JSON.stringify(record)));

/**
 * A workspace for each test of a file.
 *
 * @example const bed = auditBed(plain); const report = await bed.audited(await bed.run());
 */
export function auditBed(usual: Pipeline) {
  let workspace: Workspace;
  beforeEach(async () => {
    workspace = await Workspace.create();
  });
  afterEach(() => workspace.remove());

  async function run(of: Pipeline = usual, options: { flush?: boolean } = {}): Promise<string> {
    await workspace.write(TOPIC, LOGS);
    const out = workspace.newOutput();
    await workspace.run({ pipeline: of, out, batchSize: 2, ...options });
    return out;
  }

  async function audited(
    out: string,
    of: Pipeline = usual,
    options: Partial<AuditOptions> = {},
  ): Promise<AuditReport> {
    const { definition } = of;
    const references = keptReferences(definition, outputPaths(out).references);
    const place = await openOutput(out, {});
    try {
      return await audit(place, { definition, references, examples: 5, ...options });
    } finally {
      await place.close();
    }
  }

  return { run, audited, workspace: () => workspace };
}

export async function withDatabase(
  file: string,
  work: (connection: DuckDBConnection) => Promise<unknown>,
): Promise<void> {
  const instance = await DuckDBInstance.create(file);
  const connection = await instance.connect();
  await work(connection);
  connection.closeSync();
  instance.closeSync();
}

export const change = (out: string, sql: string) =>
  withDatabase(join(out, "results.duckdb"), (connection) => connection.run(sql));

/** Of the tables that differ: what was found in them. */
export function found({ tables: all }: AuditReport) {
  return Object.fromEntries(
    all
      .filter(({ differences }) => differences.length > 0)
      .map(({ table, differences }) => [
        table,
        differences.map(({ kind, columns, explanation }) => ({
          kind,
          columns: columns.map((c) => `${c.column}: ${c.published} / ${c.recomputed}`),
          explanation,
        })),
      ]),
  );
}
