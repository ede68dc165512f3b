/** The example of docs/testing.md, which shows this file as it stands here. */
import { count, minutes, pipeline, stream, string, timestamp, tumbling } from "millpond";
import { testPipeline } from "millpond/testing";
import { expect, test } from "vitest";

const clicks = stream("clicks", {
  schema: { id: string(), page: string(), at: timestamp() },
  eventTime: "at",
  lateness: minutes(1),
});
const site = pipeline("site", {
  views: clicks
    .groupBy("page")
    .window(tumbling(minutes(5)))
    .aggregate({ views: count() }),
});

test("a window is published when the watermark passes it; then its events are late", async () => {
  const driver = await testPipeline(site);
  await driver.send("clicks", [
    { id: "1", page: "/", at: "2026-01-01T12:00:10Z" },
    { id: "2", page: "/", at: "2026-01-01T12:04:59Z" },
  ]);
  expect(driver.rows("views")).toEqual([]);

  await driver.advanceEventTime("clicks", "2026-01-01T12:06:00Z");
  const published = {
    window_start: "2026-01-01T12:00:00.000Z",
    window_end: "2026-01-01T12:05:00.000Z",
    page: "/",
    views: 2,
  };
  expect(driver.rows("views")).toEqual([published]);

  await driver.send("clicks", { id: "3", page: "/", at: "2026-01-01T12:04:00Z" });
  expect(driver.rows("views")).toEqual([published]);
  expect(driver.late()).toMatchObject([{ table: "views", watermark: "2026-01-01T12:05:00.000Z" }]);
});

test("a record that is no event is a dead letter", async () => {
  const driver = await testPipeline(site);
  await driver.send("clicks", ['{"id": "1",', { id: 7, page: "/", at: "2026-01-01T12:00:00Z" }]);
  expect(driver.deadLetters()).toMatchObject([
    { offset: 0, reason: "malformed" },
    { offset: 1, reason: "wrong_type" },
  ]);
});

test("a partition that is away holds nothing back, and revises when it returns", async () => {
  const driver = await testPipeline(site, { startAt: "2026-01-01T12:00:00Z" });
  const at = "2026-01-01T12:00:10Z";
  await driver.send("clicks", { id: "1", page: "/", at }, { partition: 0 });
  await driver.send("clicks", { id: "2", page: "/", at }, { partition: 1 });
  await driver.advanceEventTime("clicks", "2026-01-01T12:10:00Z", { partition: 0 });
  expect(driver.rows("views")).toEqual([]);

  await driver.advanceClock(minutes(2));
  expect(driver.rows("views")).toMatchObject([{ views: 1 }]);

  await driver.advanceEventTime("clicks", "2026-01-01T12:10:00Z", { partition: 1 });
  expect(driver.rows("views")).toMatchObject([{ views: 2 }]);
  expect(driver.changes("views").map(({ views, revision }) => [views, revision])).toEqual([
    [1, 0],
    [2, 1],
  ]);
});
