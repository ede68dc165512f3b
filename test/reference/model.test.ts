/**
 * A second reading of section 3, event by event with plain loops, against the SQL one: the two have
 * nothing in common but the text they were written from.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type {
  ColumnType,
  FieldNode,
  PipelineDefinition,
  TableNode,
  WindowNode,
} from "../../lib/define/definition.js";
import { compareTables } from "./compare.js";
import { referenceTables } from "./reference.js";
import type { Row } from "./rows.js";

const ROUNDS = 40;
const PARTITIONS = 2;

interface Event {
  readonly id: string;
  readonly user: string;
  readonly at: number;
}

interface Case {
  readonly latenessMs: number;
  readonly withinMs: number;
  readonly window: WindowNode;
  readonly partitions: readonly (readonly Event[])[];
}

/** mulberry32: 32 bits of state are plenty for test data. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** Small times, so that ends, gaps and reaches are often met exactly; negative ones too. */
function randomCase(random: (below: number) => number): Case {
  const everyMs = 1 + random(5);
  const window: WindowNode =
    random(2) === 0
      ? { kind: "session", gapMs: 1 + random(6) }
      : {
          kind: "sliding",
          everyMs,
          sizeMs: everyMs + random(3) * (1 + random(everyMs)),
          offsetMs: random(everyMs),
        };
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => {
    let clock = random(10) - 20;
    return Array.from({ length: 40 }, () => {
      clock += random(3);
      const at = clock - (random(3) === 0 ? random(15) : 0);
      return { id: `id-${random(12)}`, user: `${partition}-${random(3)}`, at };
    });
  });
  return { latenessMs: random(8), withinMs: random(12), window, partitions };
}

type Class = "late" | "duplicate" | "counted";

/** Each event's fate and watermark, and for counted ones the window starts that took it. */
function* judge(
  events: readonly Event[],
  { latenessMs, withinMs, window }: Case,
): Generator<{ event: Event; offset: number; watermark: number; fate: Class; starts: number[] }> {
  let watermark = Number.NEGATIVE_INFINITY;
  for (const [offset, event] of events.entries()) {
    const reach = watermark - withinMs;
    const earlier = events.slice(0, offset);
    const starts: number[] = [];
    let fate: Class = "counted";
    if (window.kind === "sliding") {
      const from = event.at - window.sizeMs + 1;
      for (let start = from; start <= event.at; start++) {
        const isAligned = (start - window.offsetMs) % window.everyMs === 0;
        if (isAligned && start + window.sizeMs > watermark) starts.push(start);
      }
      if (starts.length === 0) fate = "late";
    } else if (event.at < watermark) fate = "late";
    if (earlier.some(({ id, at }) => id === event.id && at >= reach)) fate = "duplicate";
    if (event.at < reach) fate = "late";
    yield { event, offset, watermark, fate, starts };
    watermark = Math.max(watermark, event.at - latenessMs);
  }
}

function modelTables(input: Case): { result: Row[]; late: Row[] } {
  const late: Row[] = [];
  const counts = new Map<string, { start: number; user: string; n: number }>();
  const times = new Map<string, number[]>();
  for (const [partition, events] of input.partitions.entries()) {
    for (const { event, offset, watermark, fate, starts } of judge(events, input)) {
      if (fate === "late") late.push({ partition, offset, event_time: event.at, watermark });
      if (fate !== "counted") continue;
      times.set(event.user, [...(times.get(event.user) ?? []), event.at]);
      for (const start of starts) {
        const key = `${start} ${event.user}`;
        const window = counts.get(key) ?? { start, user: event.user, n: 0 };
        counts.set(key, { ...window, n: window.n + 1 });
      }
    }
  }
  const { window } = input;
  if (window.kind === "session") return { result: sessions(times, window.gapMs), late };
  const result = [...counts.values()].map(({ start, user, n }) => ({
    window_start: start,
    window_end: start + window.sizeMs,
    user,
    n,
  }));
  return { result, late };
}

function sessions(times: ReadonlyMap<string, number[]>, gapMs: number): Row[] {
  const rows: { session_start: number; session_end: number; user: string; n: number }[] = [];
  for (const [user, ats] of times) {
    for (const at of ats.toSorted((a, b) => a - b)) {
      const last = rows.at(-1);
      if (last?.user === user && at - last.session_end <= gapMs) {
        last.session_end = at;
        last.n++;
      } else rows.push({ session_start: at, session_end: at, user, n: 1 });
    }
  }
  return rows.map((row): Row => ({ ...row }));
}

function definitionOf({ latenessMs, withinMs, window }: Case): PipelineDefinition {
  const field = (name: string, type: ColumnType, more: Partial<FieldNode> = {}): FieldNode => {
    return { name, type, path: [name], nullable: false, checks: [], ...more };
  };
  const result: TableNode = {
    name: "result",
    stream: "events",
    steps: [],
    shape: {
      kind: "windowed",
      window,
      groupBy: ["user"],
      aggregates: [{ name: "n", fn: "count" }],
    },
    emit: { kind: "final" },
    reviseForMs: 1000,
    columns: [
      { name: "user", type: { kind: "string" }, nullable: false },
      { name: "n", type: { kind: "bigint" }, nullable: false },
    ],
  };
  const fields = [
    field("id", { kind: "string" }),
    field("user", { kind: "string" }),
    field("at", { kind: "timestamp" }, { format: { kind: "epoch_ms" } }),
  ];
  return {
    version: 1,
    name: "model",
    parameters: [],
    streams: [
      {
        name: "events",
        fields,
        key: "user",
        eventTime: "at",
        latenessMs,
        maxAheadMs: 1000,
        idleAfterMs: 1000,
        dedup: { id: "id", withinMs },
        maxRecordBytes: 1000,
      },
    ],
    references: [],
    tables: [result],
    sinks: [],
  };
}

test("random streams give the same tables by loops and by SQL", async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  console.log(`seed ${seed} (set SEED to repeat)`);
  const random = randomFrom(seed);
  const folder = await mkdtemp(join(tmpdir(), "millpond-model-"));
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const input = randomCase(random);
      const files = input.partitions.map((_, partition) => ({
        path: join(folder, `${partition}.ndjson`),
        topic: "events",
        partition,
      }));
      for (const [partition, events] of input.partitions.entries()) {
        const lines = events.map((event) => JSON.stringify(event)).join("\n");
        await writeFile(files[partition].path, lines);
      }
      const tables = await referenceTables(definitionOf(input), { files });
      const model = modelTables(input);
      const keys = input.window.kind === "session" ? ["session_start"] : ["window_start"];
      const result = await tables.table("result");
      const late = await tables.table("late");
      tables.close();
      const about = `seed ${seed}, round ${round}, ${JSON.stringify(input)}`;
      expect(compareTables(result, model.result, [...keys, "user"]), about).toBe("");
      expect(compareTables(late, model.late, ["partition", "offset"]), about).toBe("");
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});
