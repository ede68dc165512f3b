/** The second example of docs/testing.md, which shows this file as it stands here. */
import {
  count,
  minutes,
  pipeline,
  seconds,
  session,
  stream,
  string,
  timestamp,
  tumbling,
} from "millpond";
import { type FuzzGenerator, fuzzPipeline } from "millpond/testing";
import { expect, test } from "vitest";

const clicks = stream("clicks", {
  schema: { id: string(), user: string(), page: string(), at: timestamp() },
  key: "user",
  eventTime: "at",
  lateness: seconds(30),
  dedup: "id",
});
const site = pipeline("site", {
  views: clicks
    .groupBy("page")
    .window(tumbling(minutes(1)))
    .aggregate({ views: count() }),
  visits: clicks
    .groupBy("user")
    .window(session(minutes(2)))
    .aggregate({ clicks: count() }),
});

/** Some minutes of clicks: out of order, a few of them twice, too late, or broken. */
const someClicks: FuzzGenerator = (random) => {
  let now = Date.parse("2026-01-01T12:00:00Z");
  return Array.from({ length: 30 }, (_, i) => {
    now += random.below(20_000);
    const user = `user-${random.below(5)}`;
    const id = random.unit() < 0.1 ? i - 1 : i;
    const at = new Date(now - random.below(60_000)).toISOString();
    const click = { id: `${id}`, user, page: random.pick(["/", "/cart"]), at };
    return { stream: "clicks", key: user, value: random.unit() < 0.05 ? '{"id":' : click };
  });
};

test("whatever happens on the way, the tables are what the clicks say", async () => {
  const { rows } = await fuzzPipeline(site, someClicks);
  expect(rows.views).toBeGreaterThan(0);
  expect(rows.late).toBeGreaterThan(0);
}, 60_000);
