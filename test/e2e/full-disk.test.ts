/**
 * A disk that is full: what is stopped by it says so, damages nothing, and goes on once there is
 * room. The disk is a small tmpfs, in a mount namespace that ends with the command.
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { commandLine, succeed, testDir } from "./support/cli.js";
import { differences } from "./support/outputs.js";

const PIPELINE = fileURLToPath(new URL("support/activity.ts", import.meta.url));
const CHANGED = ["--set", "gap_minutes=3"];
const dir = testDir("full-disk");
const [input, whole, changed] = ["input", "whole", "changed"].map((name) => path.join(dir, name));
const run = (out: string, ...more: string[]) =>
  ["run", PIPELINE, "--input", input!, "--out", out, ...more] as const;

/** As root of a namespace of its own; null when that cannot be had. */
function inNamespace(script: string) {
  const { status, stderr } = spawnSync("unshare", ["-rm", "bash", "-c", script], {
    encoding: "utf8",
  });
  return { status, stderr };
}
const canMount = inNamespace(`mount -t tmpfs tmpfs ${dir}`).status === 0;
const title = canMount ? "a full disk" : "a full disk (skipped: needs user namespaces, or root)";

/**
 * On a disk of so many KiB, `prepare` beforehand and then the command, which must fail; with more
 * room the same again. What the disk then holds is left at `kept`.
 */
function onFullDisk(kib: number, command: readonly string[], kept: string, prepare = "true") {
  const disk = fs.mkdtempSync(path.join(dir, "disk-"));
  const again = commandLine(command.map((word) => word.replace("DISK", disk)));
  const { status, stderr } = inNamespace(`
    mount -t tmpfs -o size=500m tmpfs '${disk}' || exit 90
    ${prepare.replace("DISK", disk)} || exit 91
    mount -o remount,size=${kib}k '${disk}' || exit 92
    ${again} > /dev/null; [ $? = 5 ] || exit 93
    mount -o remount,size=500m '${disk}' || exit 94
    ${again} > /dev/null 2>&1 || exit 95
    cp -r '${disk}/out' '${kept}'`);
  expect([status, stderr]).toEqual([0, expect.stringMatching(/^error: .*[Tt]he disk is full/m)]);
}

describe.skipIf(!canMount)(title, () => {
  beforeAll(() => {
    const shape = ["--events", "30000", "--partitions", "2", "--rate", "200", "--seed", "4"];
    succeed("simulate", "activity", ...shape, "--late", "0.01", "--out", input!);
    succeed(...run(whole!));
    succeed(...run(changed!, ...CHANGED));
  });

  // As things are: a checkpoint, the lake, the database.
  test.each([2000, 8700, 9500])("of %i KiB stops a run", async (kib) => {
    const kept = path.join(dir, `run-${kib}`);
    onFullDisk(kib, run("DISK/out", "--batch-size", "1000"), kept);
    expect(await differences(whole!, kept)).toEqual([]);
  });

  // Beside the 6 MB that are there: state, the lake.
  test.each([8000, 14_500])("of %i KiB stops a backfill", async (kib) => {
    const kept = path.join(dir, `backfill-${kib}`);
    const backfill = ["backfill", PIPELINE, "--out", "DISK/out", ...CHANGED];
    onFullDisk(kib, backfill, kept, `cp -r '${whole}' 'DISK/out'`);
    const data = fs.readdirSync(kept).filter((name) => name.startsWith("data-"));
    expect(data).toHaveLength(1);
    expect(await differences(changed!, path.join(kept, data[0]!))).toEqual([]);
  });
});
