/** The deployed stack at work: events in by its producer, results out by its query. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import activity from "../../pipelines/activity.js";
import { fetchResults } from "../integration/support/aws-results.js";
import { differencesFromReference, Workspace } from "../integration/support/check.js";
import { Cloud, saveTopic, setUpCloud } from "./cloud.js";

const missing = await setUpCloud();
const title = missing === null ? "the deployed stack" : `the deployed stack (skipped: ${missing})`;
const TOPIC = "user_activity";
const EVENTS = Number(process.env.EVENTS ?? 20_000);

describe.skipIf(missing !== null)(title, () => {
  let cloud: Cloud;
  let workspace: Workspace;
  const before = { ...process.env };

  beforeAll(async () => {
    workspace = await Workspace.create();
    cloud = await Cloud.start({ pipeline: "pipelines/activity.ts" });
  });
  afterAll(async () => {
    process.env = before;
    await cloud?.stop();
    await workspace?.remove();
  });

  test("results equal the reference over the topic", async () => {
    const produced = await cloud.invoke("Producer", {
      simulator: "activity",
      events: EVENTS,
      start: "2026-01-01T00:00:00Z",
      eventRate: 100,
      late: 0.01,
      duplicates: 0.01,
      malformed: 0.001,
      outOfOrderMs: 60_000,
    });
    console.log(produced);
    const mapping = await cloud.poll([TOPIC]);
    const records = await saveTopic(cloud.kafka.bootstrap, TOPIC, workspace.input(TOPIC));
    await expect.poll(() => mapping.stats().delivered, { timeout: 600_000 }).toBe(records);
    await mapping.stop();
    console.log(mapping.stats());
    const flushed = await cloud.invoke("Sink", { flush: true });
    console.log(flushed);
    const out = workspace.newOutput();
    await fetchResults("activity", cloud.env, out);
    expect(await differencesFromReference(activity, out, workspace)).toBe("");
  });
});
