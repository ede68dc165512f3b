/**
 * The simulators' events, out of order, late, duplicated and malformed, give the reference's
 * tables.
 */
import { expect, test } from "vitest";
import { SIMULATIONS, type Simulation, simulate } from "../../lib/sources/simulate/simulate.js";
import { writeSimulation } from "../../lib/sources/simulate/write-files.js";
import { differencesBetween, differencesFromReference, Workspace } from "./support/check.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { simulationPipelines } from "./support/simulations.js";

const BATCH_SIZES = [10_000, 1000, 7, 1];

async function checkOne(simulation: Simulation, seed: number): Promise<void> {
  const random = new Random(seed);
  const workspace = await Workspace.create();
  try {
    const options = {
      events: random.between(500, 1500),
      seed,
      partitions: random.between(1, 8),
      ratePerSecond: random.pick([1, 5, 20]),
      startMs: Date.UTC(2025, 0, 1),
      late: random.pick([0, 0.02, 0.1]),
      duplicates: random.pick([0, 0.02, 0.1]),
      malformed: random.pick([0, 0.02, 0.1]),
      outOfOrderMs: random.pick([0, 5000, 120_000]),
    };
    const records = simulate(simulation, options);
    writeSimulation(workspace.input(simulation), options.partitions, records);
    const pipeline = simulationPipelines[simulation]();
    const outs: string[] = [];
    for (const batchSize of BATCH_SIZES) {
      const out = workspace.newOutput();
      await workspace.run({ pipeline, out, batchSize });
      outs.push(out);
    }
    const about = `${simulation} ${JSON.stringify(options)}`;
    expect(await differencesFromReference(pipeline, outs[0], workspace), about).toBe("");
    for (const [i, out] of outs.slice(1).entries()) {
      const between = await differencesBetween(pipeline, [outs[0], out], { revisions: true });
      expect(between, `${about}, batch size ${BATCH_SIZES[i + 1]}`).toBe("");
    }
  } finally {
    await workspace.remove();
  }
}

test.each(SIMULATIONS)(
  "%s: tables equal the reference's at any batch size",
  async (simulation) => {
    const seed = testSeed();
    const rounds = testRounds(3);
    for (let round = 0; round < rounds; round++) await checkOne(simulation, seed + round);
  },
  3_600_000,
);
