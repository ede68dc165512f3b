/** Roles of the deployed functions, enforced by the emulator: they suffice, and they are needed. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cloud, setUpCloud } from "./cloud.js";

const missing = await setUpCloud();
const title = missing === null ? "permissions" : `permissions (skipped: ${missing})`;
const TOPIC = "user_activity";
const EVENTS = 5_000;
const WAIT = { timeout: 60_000, interval: 250 } as const;
const TEST_MS = 300_000;

describe.skipIf(missing !== null)(title, () => {
  const before = { ...process.env };
  let cloud: Cloud | undefined;
  beforeEach(() => {
    cloud = undefined;
  });
  afterEach(async () => {
    process.env = before;
    await cloud?.stop();
  });

  const produce = (from: Cloud) =>
    from.invoke("Producer", {
      simulator: "activity",
      events: EVENTS,
      start: "2026-01-01T00:00:00Z",
      eventRate: 1,
    });

  test(
    "what is granted is enough for the whole way",
    async () => {
      cloud = await Cloud.start({ pipeline: "pipelines/activity.ts", enforced: { without: [] } });
      await produce(cloud);
      const mapping = await cloud.poll([TOPIC]);
      await expect.poll(() => mapping.stats().delivered, WAIT).toBe(EVENTS);
      await mapping.stop();
      expect(mapping.stats().failures).toBe(0);
      expect(await cloud.invoke("Sink", { flush: true })).toMatchObject({ pending: 0 });
      const sql = "SELECT count(*) AS n FROM page_view_counts";
      const answer = await cloud.invoke("QueryFunction", { sql, format: "json" });
      expect(answer).toMatchObject({ statusCode: 200 });
    },
    TEST_MS,
  );

  test(
    "without its right to state the processor fails, so the emulator does enforce",
    async () => {
      const enforced = { without: ["State"] };
      cloud = await Cloud.start({ pipeline: "pipelines/activity.ts", enforced });
      await produce(cloud);
      const troubles: string[] = [];
      const onTrouble = (error: unknown) => troubles.push(String(error));
      const mapping = await cloud.poll([TOPIC], { onTrouble });
      await expect.poll(() => troubles.join("\n"), WAIT).toMatch(/AccessDenied|not authorized/);
      await mapping.stop();
      expect(mapping.stats().delivered).toBe(0);
    },
    TEST_MS,
  );
});
