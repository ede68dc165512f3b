/**
 * Random changes of random outputs, one row at a time: the audit finds each, or the row is one that
 * it counted as open. Outputs are flushed or not, and read in several runs.
 */
import { expect, test } from "vitest";
import type { AuditReport } from "../../lib/audit/audit.js";
import {
  count,
  max,
  type Pipeline,
  pipeline,
  seconds,
  sum,
  tumbling,
  updates,
} from "../../lib/index.js";
import {
  auditBed,
  SINKS,
  TOPIC,
  tables as usual,
  visits,
  withDatabase,
} from "./support/audited-visits.js";
import { Random, testRounds, testSeed } from "./support/random.js";

const tables = {
  ...usual,
  live: visits
    .groupBy("user")
    .window(tumbling(seconds(20)))
    .aggregate({ hits: count(), most: max("n"), total: sum("n") })
    .emit(updates({ every: seconds(1) })),
};
const plain = pipeline("visits", tables, { sinks: SINKS });
const { audited, workspace } = auditBed(plain);

const USERS = ["ann", "bob", "eve", "joe"];

function randomLog(random: Random, partition: number, length: number): string[] {
  let at = 100 + random.below(60);
  return Array.from({ length }, (_, i) => {
    at += random.pick([0, 1, 1, 2, 5, 20]);
    const late = random.chance(0.1) ? random.below(40) : random.below(4);
    const id = `${partition}-${random.chance(0.1) ? random.below(i + 1) : i}`;
    if (random.chance(0.03)) return "no record";
    const user = `${random.pick(USERS)}${partition}`;
    return JSON.stringify({ id, user, n: random.between(-2, 9), at: at - late });
  });
}

/** Two or three runs over a growing input; the last may not flush. */
async function randomOutput(
  random: Random,
  of: Pipeline,
): Promise<{ out: string; flush: boolean }> {
  const logs = [0, 1, 2].map((partition) => randomLog(random, partition, random.between(5, 40)));
  const out = workspace().newOutput();
  const runs = random.between(1, 3);
  const ends = logs.map(() => 0);
  let flush = true;
  for (let run = 0; run < runs; run++) {
    const isLast = run === runs - 1;
    const parts = logs.map((log, i) => {
      ends[i] = isLast ? log.length : random.between(ends[i]!, log.length);
      return log.slice(0, ends[i]);
    });
    await workspace().write(TOPIC, parts);
    flush = random.chance(0.5);
    await workspace().run({ pipeline: of, out, batchSize: random.between(1, 20), flush });
  }
  return { out, flush };
}

/** One row of the table changed, removed or made up; null when the table has none. */
async function tamper(random: Random, file: string, table: string): Promise<string | null> {
  let done: string | null = null;
  await withDatabase(file, async (connection) => {
    const rows = await connection.runAndReadAll(`SELECT rowid FROM ${table} ORDER BY ALL`);
    if (rows.currentRowCount === 0) return;
    const rowid = String(random.pick(rows.getRows())[0]);
    const columns = (await connection.runAndReadAll(`DESCRIBE ${table}`)).getRows();
    const numbers = columns.filter(([name, type]) => type === "BIGINT" && name !== "offset");
    const where = `WHERE rowid = ${rowid}`;
    const kinds = ["delete", "insert", ...(numbers.length > 0 ? ["update", "update"] : [])];
    const kind = random.pick(kinds);
    if (kind === "update") {
      const [name] = random.pick(numbers);
      const by = random.pick(["+ 1", "- 1"]);
      done = `UPDATE ${table} SET "${name}" = "${name}" ${by} ${where}`;
    } else if (kind === "insert") done = `INSERT INTO ${table} FROM ${table} ${where}`;
    else done = `DELETE FROM ${table} ${where}`;
    const [before] = (await connection.runAndReadAll(`FROM ${table} ${where}`)).getRowsJson();
    await connection.run(done);
    done += ` -- ${JSON.stringify(before)}`;
  });
  return done;
}

const opened = ({ tables: all }: AuditReport) => all.reduce((sum, { open }) => sum + open, 0);

const WINDOWED = Object.keys(tables).filter((name) => name !== "clean");

test("a changed row is found; else its window is open, and the row counted as that", async () => {
  const seed = testSeed();
  for (let round = 0; round < testRounds(5); round++) {
    const random = new Random(seed + round);
    const name = `seed ${seed + round}`;
    const { out, flush } = await randomOutput(random, plain);
    const before = await audited(out);
    expect(
      before.tables.flatMap(({ differences }) => differences),
      name,
    ).toEqual([]);
    if (flush) expect(opened(before), name).toBe(0);
    const table = random.pick([...Object.keys(tables), "late", "dead_letters"]);
    const change = await tamper(random, `${out}/results.duckdb`, table);
    if (change === null) continue;
    const after = await audited(out);
    if (!after.equal) continue;
    // A row that an earlier flush may have left so: all of its kinds are in docs/audit.md.
    expect({ flush, isWindowed: WINDOWED.includes(table) }, `${name}: ${change}`).toEqual({
      flush: false,
      isWindowed: true,
    });
    expect(change, name).toMatch(/^(DELETE|UPDATE)/);
    expect(opened(after), `${name}: ${change}`).toBeGreaterThanOrEqual(Math.max(1, opened(before)));
  }
}, 300_000);
