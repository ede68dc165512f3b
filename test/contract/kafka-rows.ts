/** Publications of a row table that has a column of every type, for tests of the Kafka sink. */
import type { Publication } from "../../lib/sinks/sink.js";
import { batchOf, plain, type Row } from "./sinks-batches.js";
import { compareRows, ROWS } from "./sinks-script.js";

/** Rows of partitions 0 to 3, with offsets that run on. */
export class Rows {
  readonly publications: Publication[] = [];
  readonly rows: Row[] = [];

  add(rows: readonly Row[], partition = this.publications.length % 4): this {
    const from = this.rows.length;
    const full = rows.map((row, i): Row => [...row, "clicks", partition, BigInt(from + i)]);
    this.rows.push(...full);
    const sequence = this.publications.length + 1;
    const batch = batchOf(ROWS.columns, full);
    this.publications.push({ sequence, table: ROWS.name, batch });
    return this;
  }

  expected(): (string | null)[][] {
    const types = ROWS.columns.map(({ type }) => type);
    return this.rows
      .map((row) => row.map((value, index) => plain(types[index]!, value ?? null)))
      .sort(compareRows);
  }
}
