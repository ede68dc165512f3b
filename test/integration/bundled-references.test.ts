/** Reference tables beside a bundle: the same values and the same hash as a local run's. */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { definitionHash } from "../../lib/define/json.js";
import { valueAt } from "../../lib/engine/row-values.js";
import type { ReferenceData } from "../../lib/engine/steps.js";
import { pipelineRuntime } from "../../lib/handlers/pipeline-runtime.js";
import {
  bigint,
  boolean,
  decimal,
  double,
  int,
  minutes,
  type Pipeline,
  pipeline,
  reference,
  stream,
  string,
  timestamp,
} from "../../lib/index.js";
import {
  readBundledReferences,
  writeBundledReferences,
} from "../../lib/runtime/bundled-references.js";
import { loadReferences } from "../../lib/runtime/references.js";

let dir = "";
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "millpond-references-"));
});
afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

function planes(): Pipeline {
  const file = path.join(dir, "planes.csv");
  const rows = [
    "tail,seats,weight,price,built,active,serial",
    "N1,120,1.5,99.95,2001-02-03T04:05:06.789Z,true,9007199254740993",
    '"N,2 ""ä""",,,,,,',
  ];
  fs.writeFileSync(file, `${rows.join("\n")}\n`);
  const table = reference("planes", {
    file,
    schema: {
      tail: string(),
      seats: int().nullable(),
      weight: double().nullable(),
      price: decimal(8, 2).nullable(),
      built: timestamp().nullable(),
      active: boolean().nullable(),
      serial: bigint().nullable(),
    },
  });
  const flights = stream("flights", {
    schema: { tail: string(), at: timestamp() },
    eventTime: "at",
    lateness: minutes(1),
  });
  return pipeline("flights", {
    seats: flights.enrich(table, { on: "tail", select: ["seats"] }).rows(),
  });
}

describe("references beside a bundle", () => {
  it("are what was loaded, with the same hash of the definition", async () => {
    const flights = planes();
    const bundle = path.join(dir, "bundle", "references");
    await writeBundledReferences(await loadReferences(flights), bundle);
    const loaded = await loadReferences(flights);
    fs.rmSync(path.join(dir, "planes.csv"));
    const read = await readBundledReferences(flights, bundle);
    expect(read.hashes).toEqual(loaded.hashes);
    expect(read.data.get("planes")?.batch.rowCount).toBe(2);
    expect(plain(read.data.get("planes"))).toEqual(plain(loaded.data.get("planes")));
    const runtime = await pipelineRuntime(flights, { MILLPOND_REFERENCES: bundle });
    expect(runtime.definitionHash).toBe(definitionHash(flights.definition, loaded.hashes));
  });

  it("that are missing are named, with what to do", async () => {
    const flights = planes();
    const read = () => pipelineRuntime(flights, { MILLPOND_REFERENCES: path.join(dir, "none") });
    await expect(read()).rejects.toThrow(/references.json is not there. Make the bundle again/);
    await writeBundledReferences(await loadReferences(flights), path.join(dir, "none"));
    fs.rmSync(path.join(dir, "none", "0.batch"));
    await expect(read()).rejects.toThrow(/0.batch is not there/);
    fs.writeFileSync(path.join(dir, "none", "references.json"), '{"format":1,"files":{}}');
    await expect(read()).rejects.toThrow(/reference "planes" is not in its index/);
  });
});

/** Values by column, without the vectors' spare room. */
function plain(reference: ReferenceData | undefined) {
  const { batch } = reference!;
  return batch.columns.map((column) => [
    column.name,
    Array.from({ length: batch.rowCount }, (_, row) => valueAt(column, row)),
  ]);
}
