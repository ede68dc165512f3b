/**
 * How fast sinks take rows: a million of a windowed table, half of which supersede the other half.
 * The server of PostgreSQL is one of the tests'.
 */
import * as fs from "node:fs";
import { MillpondError } from "../../lib/errors.js";
import { lakeSink } from "../../lib/sinks/lake.js";
import { postgresSink } from "../../lib/sinks/postgres.js";
import type { Publication, Sink } from "../../lib/sinks/sink.js";
import { COUNTS, manyCounts } from "../contract/sinks-script.js";
import { setUpPostgres, startPostgres } from "../servers/postgres.js";

const BATCH_ROWS = 50_000;
const BATCHES = 20;

export interface SinkRows {
  /** Written. */
  readonly events: number;
  /** While they were; the rest is making server and rows. */
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

/** @throws MillpondError USAGE when there is no PostgreSQL on this machine */
export async function sinkRows(name: "lake" | "postgres", out: string): Promise<SinkRows> {
  const layouts = [COUNTS];
  if (name === "lake") {
    fs.rmSync(out, { recursive: true, force: true });
    return written(lakeSink({ dir: out, pipeline: "bench", layouts }));
  }
  const missing = await setUpPostgres();
  if (missing !== null) throw new MillpondError("USAGE", missing);
  const server = await startPostgres();
  try {
    const sink = postgresSink({ env: server.env, pipeline: "bench", schema: "bench", layouts });
    const measured = await written(sink);
    const { rows } = await server.query('SELECT count(*) AS n, min(revision) FROM bench."select"');
    if (rows[0]?.n === `${(BATCH_ROWS * BATCHES) / 2}` && rows[0]?.min === 1) return measured;
    throw new MillpondError("INVARIANT", `rows are missing: ${JSON.stringify(rows)}`);
  } finally {
    await server.stop();
  }
}

async function written(sink: Sink): Promise<SinkRows> {
  const publications = Array.from({ length: BATCHES }, (_, index): Publication => {
    const [revision, place] = [Math.floor((2 * index) / BATCHES), index % (BATCHES / 2)];
    const batch = manyCounts(place * BATCH_ROWS, BATCH_ROWS, revision);
    return { sequence: index + 1, table: COUNTS.name, batch };
  });
  await sink.open();
  const [started, before] = [performance.now(), process.cpuUsage()];
  await sink.apply(inOrder(publications.slice(0, BATCHES / 2)), BATCHES / 2);
  await sink.apply(inOrder(publications), BATCHES);
  const { user, system } = process.cpuUsage(before);
  const wallSeconds = (performance.now() - started) / 1000;
  await sink.close();
  return { events: BATCHES * BATCH_ROWS, wallSeconds, cpuSeconds: (user + system) / 1e6 };
}

async function* inOrder(publications: readonly Publication[]) {
  yield* publications;
}
