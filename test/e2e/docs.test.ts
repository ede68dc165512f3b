/** The code in README.md and docs/ runs as it stands there. */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, beforeAll, expect, test } from "vitest";
import * as millpond from "../../lib/index.js";
import { loadPipeline } from "../../lib/runtime/load-pipeline.js";
import { runPipeline } from "../../lib/runtime/run-pipeline.js";
import { type Simulation, simulate } from "../../lib/sources/simulate/simulate.js";
import { writeSimulation } from "../../lib/sources/simulate/write-files.js";

let dir = "";
beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "millpond-docs-"));
});
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

function blocks(file: string): string[] {
  const text = fs.readFileSync(path.resolve(file), "utf8");
  return [...text.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1] ?? "");
}

/** Runs a pipeline's source over simulated events; answers with the row counts of its tables. */
async function rowCounts(name: string, source: string, simulation: Simulation) {
  const file = path.join(dir, `${name}.ts`);
  fs.writeFileSync(file, source);
  const input = path.join(dir, `${name}-events`);
  const records = simulate(simulation, {
    events: 5000,
    seed: 7,
    partitions: 2,
    ratePerSecond: 10,
    startMs: Date.UTC(2025, 5, 1),
    late: 0.01,
    duplicates: 0.01,
    malformed: 0.01,
    outOfOrderMs: 60_000,
  });
  writeSimulation(input, 2, records);
  const pipeline = await loadPipeline(file, new Map());
  const [stream] = pipeline.definition.streams;
  const out = path.join(dir, `${name}-out`);
  const inputs = new Map([[stream?.name ?? "", input]]);
  await runPipeline({ pipeline, inputs, out, flush: true, batchSize: 1000, workers: 1 });
  const instance = await DuckDBInstance.create(path.join(out, "results.duckdb"));
  const connection = await instance.connect();
  const counts = new Map<string, number>();
  for (const { name: table } of pipeline.definition.tables) {
    const reader = await connection.runAndReadAll(`SELECT count(*)::INT FROM ${table}`);
    counts.set(table, Number(reader.getRows()[0]?.[0]));
  }
  connection.closeSync();
  instance.closeSync();
  return counts;
}

test("README's pipeline fills all its tables from simulated activity", async () => {
  const [source = ""] = blocks("README.md");
  const counts = await rowCounts("activity", source, "activity");
  expect([...counts.keys()]).toEqual(["page_views", "revenue", "user_sessions", "purchases"]);
  for (const [table, count] of counts) expect(count, table).toBeGreaterThan(0);
});

test("the snippets of docs/pipelines.md together are a pipeline that runs", async () => {
  fs.writeFileSync(path.join(dir, "sites.csv"), "sensor_id,building\nsensor-0001,north\n");
  const source = blocks("docs/pipelines.md").join("\n").replaceAll("measured_at", "event_time");
  // What the snippets call, and a pipeline's file would import.
  const names = [...new Set(source.match(/\w+(?=\()/g))]
    .filter((name) => name in millpond)
    .join(", ");
  const counts = await rowCounts(
    "sensors",
    `import { ${names} } from "millpond";\n${source}`,
    "sensors",
  );
  expect(counts.get("temperature_5m")).toBeGreaterThan(0);
  expect(counts.has("hot_readings")).toBe(true);
});

test("the examples of docs/testing.md are those that are tested", () => {
  const examples = ["example", "fuzz-example"].map((name) => {
    const text = fs.readFileSync(`test/unit/testing/${name}.test.ts`, "utf8");
    return text.slice(text.indexOf("\n") + 1);
  });
  expect(blocks("docs/testing.md")).toEqual(examples);
});
