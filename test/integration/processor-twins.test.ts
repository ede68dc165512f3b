/**
 * Two live processes with the processor's handler on the same partitions of one directory, killed
 * at random and started again, while a sink publishes: the results are what SQL says of the log.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeSink } from "../../lib/handlers/sink.js";
import { clicksPipeline } from "../unit/handlers/clicks.js";
import { bundleChild } from "./support/bundle-child.js";
import { differencesFromReference, Workspace } from "./support/check.js";
import { Random, testRounds, testSeed } from "./support/random.js";

const CHILD = path.resolve(".cache", "processor-child.mjs");
const KILLS = testRounds(20);
/** More than both twins can read meanwhile. */
const LINES_PER_KILL = 200;
/** Between two kills, of each twin. */
const STEPS_MAX = 6;
const AFTER_MS_MAX = 15;
const context = { getRemainingTimeInMillis: () => 60_000 };
const pipeline = clicksPipeline();

let workspace: Workspace;
beforeEach(async () => {
  workspace = await Workspace.create();
  await bundleChild("test/integration/support/processor-child.ts", CHILD);
});
afterEach(() => workspace.remove());

/** Clicks with disorder, late ones, duplicates and what cannot be read. */
function randomLines(random: Random, partition: number, count: number): string[] {
  const lines: string[] = [];
  for (let clock = Date.UTC(2025, 0, 1); lines.length < count; clock += random.below(4000)) {
    if (lines.length > 0 && random.chance(0.03)) {
      lines.push(random.pick(lines.slice(-20)));
      continue;
    }
    const late = random.chance(0.02) ? 300_000 : random.below(50_000);
    const at = new Date(clock - late).toISOString();
    const user = `${partition}-${random.below(9)}`;
    const click = { id: `${partition}-${lines.length}`, user, page: `/${random.below(5)}` };
    const line = JSON.stringify({ ...click, cost: random.below(400) / 4, at });
    lines.push(random.chance(0.02) ? line.slice(0, -9) : line);
  }
  return lines;
}

/** A process, and what it does until it is killed. */
class Twin {
  again = 0;
  private batches = 0;
  private errors = "";
  private readonly child: ChildProcess;
  private readonly closed: Promise<unknown>;
  private heard: () => void = () => undefined;
  private isReady = false;

  constructor(input: string, offsets: string, out: string) {
    const env = { ...process.env, MILLPOND_STORE: `file:${out}` };
    const args = ["--no-warnings", CHILD, input, offsets];
    this.child = spawn(process.execPath, args, { env, stdio: "pipe" });
    this.closed = once(this.child, "close");
    createInterface(this.child.stdout!).on("line", (line) => {
      if (line === "ready") this.isReady = true;
      else if (line === "batch") this.batches++;
      else this.again++;
      this.heard();
    });
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.errors += text;
    });
    // A dead one cannot read.
    this.child.stdin!.on("error", () => undefined);
  }

  async ready(): Promise<void> {
    await this.until(() => this.isReady);
  }

  go(steps: number): void {
    this.child.stdin!.write(`${steps}\n`);
  }

  goToTheEnd(): void {
    this.child.stdin!.end(`${Number.POSITIVE_INFINITY}\n`);
  }

  /** Resolves after so many more batches. */
  async after(batches: number): Promise<void> {
    const enough = this.batches + batches;
    await this.until(() => this.batches >= enough);
  }

  kill(): Promise<unknown[]> {
    this.child.kill("SIGKILL");
    return this.end();
  }

  /** By which signal or code it ended, and what it complained of. */
  async end(): Promise<unknown[]> {
    await this.closed;
    return [this.child.signalCode ?? this.child.exitCode, this.errors];
  }

  private async until(holds: () => boolean): Promise<void> {
    const held = new Promise<void>((resolve) => {
      this.heard = () => holds() && resolve();
      this.heard();
    });
    await Promise.race([held, this.closed]);
  }
}

test(
  `two processors on one directory, ${KILLS} kills, give what SQL gives`,
  async () => {
    const random = new Random(testSeed());
    const lines = [0, 1].map((partition) => randomLines(random, partition, KILLS * LINES_PER_KILL));
    await workspace.write("clicks", lines);
    const out = workspace.newOutput();
    const offsets = workspace.newOutput();
    fs.mkdirSync(offsets);
    const start = () => new Twin(workspace.input("clicks"), offsets, out);
    const sink = makeSink({ pipeline, env: { MILLPOND_STORE: `file:${out}` }, write: () => {} });
    const twins = [start(), start()];
    let again = 0;
    for (let kills = 0; kills < KILLS; kills++) {
      await Promise.all(twins.map((twin) => twin.ready()));
      for (const twin of twins) twin.go(STEPS_MAX);
      const which = random.below(2);
      await twins[which]!.after(random.below(STEPS_MAX));
      await delay(random.below(AFTER_MS_MAX));
      expect(await twins[which]!.kill()).toEqual(["SIGKILL", ""]);
      again += twins[which]!.again;
      twins[which] = start();
      if (random.chance(0.2)) await sink(null, context);
    }
    for (const twin of twins) twin.goToTheEnd();
    for (const twin of twins) expect(await twin.end()).toEqual([0, ""]);
    console.log(`${KILLS} kills; ${again} batches were sent again`);
    expect(await sink({ flush: true }, context)).toMatchObject({ outcome: "done", pending: 0 });
    await sink.close();
    const about = `seed ${random.seed}`;
    expect(await differencesFromReference(pipeline, out, workspace), about).toBe("");
  },
  300_000 + KILLS * 10_000,
);
