/**
 * A poller with the processor's handler, to be killed: `<folder of partitions' lines> <folder of
 * offsets>`. Like a consumer group's member it goes on from the offsets, in order, at least once,
 * by so many steps as a line of its input says.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { makeProcessor } from "../../../lib/handlers/processor.js";
import { clicksPipeline } from "../../unit/handlers/clicks.js";
import { kafkaEvent } from "../../unit/handlers/kafka-support.js";

const BATCH_MAX = 40;
const context = { getRemainingTimeInMillis: () => 60_000 };
const [input = "", offsets = ""] = process.argv.slice(2);
const handle = makeProcessor({ pipeline: clicksPipeline(), write: () => undefined });
const logs = fs.readdirSync(input).map((name, partition) => ({
  partition,
  lines: fs.readFileSync(path.join(input, name), "utf8").trimEnd().split("\n"),
  timestamp: Math.floor(fs.statSync(path.join(input, name)).mtimeMs),
  offset: path.join(offsets, String(partition)),
}));

/** A commit of the group, which a member that is behind may take back. */
function commit(file: string, offset: number): void {
  fs.writeFileSync(`${file}.${process.pid}`, String(offset));
  fs.renameSync(`${file}.${process.pid}`, file);
}

/** A batch of each partition; false at the end of all. */
async function step(): Promise<boolean> {
  let left = false;
  for (const { partition, lines, timestamp, offset } of logs) {
    const at = fs.existsSync(offset) ? Number(fs.readFileSync(offset, "utf8")) : 0;
    if (at >= lines.length) continue;
    left = true;
    const count = 1 + Math.floor(Math.random() * BATCH_MAX);
    const records = lines
      .slice(at, at + count)
      .map((value, i) => ({ offset: at + i, timestamp, value }));
    try {
      await handle(kafkaEvent([{ topic: "clicks", partition, records }]), context);
      commit(offset, at + records.length);
      process.stdout.write("batch\n");
    } catch (error) {
      // Lambda would send the batch again.
      process.stdout.write(`again: ${String(error)}\n`);
    }
  }
  return left;
}

process.stdout.write("ready\n");
for await (const steps of createInterface(process.stdin)) {
  for (let n = Number(steps); n > 0 && (await step()); n--);
}
