/**
 * What every sink must do (I7), as one suite over any of them. A sink joins by a call of
 * `describeSink` with how to make one and how another program reads what it wrote; one that holds
 * row tables alone says so by `tables`, one whose place can't hold every value by `stored`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Sink, TableLayout } from "../../lib/sinks/sink.js";
import type { Row } from "./sinks-batches.js";
import {
  COUNTS,
  column,
  compareRows,
  count,
  EVERY_TYPE,
  manyCounts,
  ROWS,
  randomOf,
  randomScript,
  Script,
  type StoredValue,
  stream,
  T0,
} from "./sinks-script.js";

const TABLES = [COUNTS, ROWS];

export interface SinkUnderTest {
  readonly name: string;
  make(dir: string, pipeline: string, layouts: readonly TableLayout[]): Sink;
  /** By another reader, of the latest revisions: columns in `plain` form, or `select`. */
  readTable(dir: string, layout: TableLayout, select?: string): Promise<(string | null)[][]>;
  /** Those it can hold, if not all of `TABLES`. */
  readonly tables?: readonly TableLayout[];
  readonly stored?: StoredValue;
  /** It takes another column into tables that are there; otherwise it refuses. */
  readonly migrates?: boolean;
  /** Two may be open at once, and take turns. */
  readonly takesTurns?: boolean;
}

export function describeSink(under: SinkUnderTest): void {
  const tables = under.tables ?? TABLES;
  describe(`sink contract: ${under.name}`, () => {
    let dir: string;
    let sink: Sink;

    beforeEach(async () => {
      dir = await mkdtemp(path.join(tmpdir(), "millpond-sink-"));
      sink = under.make(dir, "p", tables);
    });
    afterEach(async () => {
      await sink.close();
      await rm(dir, { recursive: true, force: true });
    });

    async function expectTables(script: Script): Promise<void> {
      await sink.close();
      for (const layout of tables) {
        const rows = (await under.readTable(dir, layout)).sort(compareRows);
        expect(rows).toEqual(script.expected(layout, under.stored));
      }
    }

    it("starts from nothing at sequence 0 with empty tables", async () => {
      expect(await sink.open()).toBe(0);
      await expectTables(new Script());
    });

    it("stores every type, null, awkward text and the ends of time without loss", async () => {
      const script = new Script().add(ROWS, EVERY_TYPE).add(COUNTS, [count(0, "a", 1, 5)]);
      await sink.open();
      await sink.apply(stream(script.publications), 2);
      await expectTables(script);
    });

    it("keeps values and nulls apart across many chunks", async () => {
      const rows = Array.from({ length: 5000 }, (_, i): Row => {
        const text = i % 3 === 0 ? null : `row ${i}`;
        return [
          text,
          null,
          i % 2 === 0 ? null : i,
          null,
          i,
          null,
          null,
          null,
          T0,
          null,
          i > 4000 ? [`${i}`] : null,
          null,
        ];
      });
      const script = new Script().add(ROWS, rows);
      await sink.open();
      await sink.apply(stream(script.publications), 1);
      await expectTables(script);
    });

    it("remembers its progress, also past publications without rows", async () => {
      const script = new Script().add(COUNTS, [count(0, "a", 1, 5)]).add(ROWS, []);
      await sink.open();
      await sink.apply(stream(script.publications), 2);
      await sink.close();
      expect(await sink.open()).toBe(2);
      await sink.apply(stream([]), 7);
      await sink.close();
      expect(await sink.open()).toBe(7);
    });

    it("changes nothing when publications come again", async () => {
      const script = new Script().add(COUNTS, [count(0, "a", 1, 5)]).add(ROWS, EVERY_TYPE);
      await sink.open();
      await sink.apply(stream(script.publications), 2);
      await sink.apply(stream(script.publications), 2);
      script.add(COUNTS, [count(0, "b", 1, 6)]);
      await sink.apply(stream(script.publications), 3);
      await expectTables(script);
    });

    it("passes over tables that it does not hold", async () => {
      const script = new Script().add(COUNTS, [count(0, "a", 1, 5)]);
      const other = { ...script.publications[0], sequence: 2, table: "elsewhere" };
      await sink.open();
      await sink.apply(stream([...script.publications, other]), 2);
      await expectTables(script);
    });

    it("applies nothing of a call whose input fails midway", async () => {
      const script = new Script().add(ROWS, EVERY_TYPE).add(COUNTS, [count(0, "a", 1, 5)]);
      async function* failing() {
        yield script.publications[0];
        throw new Error("the source broke");
      }
      await sink.open();
      await expect(sink.apply(failing(), 2)).rejects.toThrow(/^the source broke$/);
      await sink.apply(stream(script.publications), 2);
      await expectTables(script);
    });

    it("refuses what another pipeline wrote", async () => {
      await sink.open();
      await sink.close();
      const other = under.make(dir, "q", tables);
      await expect(other.open()).rejects.toMatchObject({
        code: "OUTPUT",
        message: expect.stringMatching(/belongs to pipeline "p"/),
      });
      await other.close();
    });

    const change = under.migrates ? "takes another column into" : "refuses another column in";
    it(`${change} tables that are there`, async () => {
      await sink.open();
      await sink.close();
      const changed = { ...ROWS, columns: [...ROWS.columns, column("more", "int", true)] };
      const other = under.make(
        dir,
        "p",
        tables.map((layout) => (layout === ROWS ? changed : layout)),
      );
      if (under.migrates) expect(await other.open()).toBe(0);
      else await expect(other.open()).rejects.toMatchObject({ code: "OUTPUT" });
      await other.close();
    });

    if (under.takesTurns) {
      it("belongs to the output that came first, also of two that begin at once", async () => {
        const script = randomScript(7, 4);
        const other = under.make(dir, "p", tables);
        expect(await sink.open("first")).toBe(0);
        expect(await other.open("second")).toBe(0);
        await sink.apply(stream(script.publications.slice(0, 2)), 2);
        const others = randomScript(8, 4).publications;
        await expect(other.apply(stream(others), 4)).rejects.toThrow();
        await expect(other.open("second")).rejects.toMatchObject({
          code: "OUTPUT",
          message: expect.stringMatching(/results of another output/),
        });
        await other.close();
        await sink.close();
        expect(await sink.open("first")).toBe(2);
        await sink.apply(stream(script.publications), 4);
        await expectTables(script);
      });

      it("is harmless when two work at once", async () => {
        const script = randomScript(7, 30);
        const sinks = [sink, under.make(dir, "p", tables)];
        for (const each of sinks) await each.open();
        const applyAll = async (each: Sink) => {
          for (let upTo = 5; upTo <= 30; upTo += 5) {
            await each.apply(stream(script.publications.slice(0, upTo)), upTo);
          }
        };
        await Promise.all(sinks.map(applyAll));
        await sinks[1].close();
        await expectTables(script);
      });
    }

    for (const seed of [1, 2, 3, Math.floor(Math.random() * 1e9)]) {
      it(`gives the same tables however a history is cut and repeated (seed ${seed})`, async () => {
        const random = randomOf(seed + 1);
        const script = randomScript(seed, 40);
        let done = await sink.open();
        while (done < script.publications.length) {
          const upTo = Math.min(script.publications.length, done + 1 + random(12));
          const from = Math.max(0, done - random(5));
          await sink.apply(stream(script.publications.slice(from, upTo)), upTo);
          done = upTo;
          if (random(4) !== 0) continue;
          await sink.close();
          expect(await sink.open()).toBe(done);
        }
        await expectTables(script);
      });
    }

    if (!tables.includes(COUNTS)) return;

    it("lets a higher revision supersede, and a retraction withdraw, across calls", async () => {
      const script = new Script()
        .add(COUNTS, [count(0, null, null, 1), count(0, "a", null, 2), count(0, "a", 1, 3)])
        .add(COUNTS, [count(0, null, null, 10, 1), count(0, "a", 1, 3, 1, true)])
        .add(COUNTS, [count(0, null, null, 100, 2), count(0, "new", 1, 4)])
        .add(COUNTS, [count(0, "a", 1, 30, 2), count(0, null, null, 0, 3, true)]);
      await sink.open();
      await sink.apply(stream(script.publications.slice(0, 3)), 3);
      await sink.apply(stream(script.publications), 4);
      await expectTables(script);
    });

    it("refuses a null where none may be, naming table and column", async () => {
      const script = new Script().add(COUNTS, [[T0, T0, "a", 1, null, 0]]);
      await sink.open();
      await expect(sink.apply(stream(script.publications), 1)).rejects.toThrow(/"select".*"count"/);
    });

    it("takes a million rows in one call", async () => {
      const rowCount = 50_000;
      async function* publications() {
        for (let sequence = 1; sequence <= 20; sequence++) {
          yield { sequence, table: COUNTS.name, batch: manyCounts(sequence * rowCount, rowCount) };
        }
      }
      await sink.open();
      await sink.apply(publications(), 20);
      await sink.close();
      const sums = 'count(*), count(DISTINCT window_start), sum(count), count(DISTINCT "group")';
      expect(await under.readTable(dir, COUNTS, sums)).toEqual([
        ["1000000", "1000000", String((50_000 + 1_049_999) * 500_000), "10"],
      ]);
    }, 60_000);
  });
}
