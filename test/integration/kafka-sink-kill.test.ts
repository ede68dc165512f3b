/** kill -9 while Kafka sinks work, two at a time: committed records hold each row once. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { kafkaSink } from "../../lib/sinks/kafka.js";
import { ROWS, stream } from "../contract/sinks-script.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { missingKcat, readByKcat } from "../servers/kcat.js";
import { bundleChild } from "./support/bundle-child.js";
import { history } from "./support/kafka-sink-history.js";
import { Random, testRounds, testSeed } from "./support/random.js";

const missing = (await setUpKafka()) ?? (await missingKcat());
const CHILD = path.resolve(".cache", `kafka-sink-child-${process.pid}.mjs`);
const PUBLICATIONS = 90;
const KILLS = testRounds(10);

describe.skipIf(missing !== null)(`Kafka sinks${missing ? ` (skipped: ${missing})` : ""}`, () => {
  let kafka: TestKafka;

  beforeAll(async () => {
    kafka = await startKafka();
    await bundleChild("test/integration/support/kafka-sink-child.ts", CHILD);
  });
  afterAll(async () => {
    await kafka?.stop();
  });

  test("killed at random moments, two at a time", async () => {
    const random = new Random(testSeed());
    const rows = history(PUBLICATIONS);
    const options = { pipeline: "p", topic: "out", layout: ROWS, keyColumn: null, sourceTopic: "" };
    const sink = kafkaSink({ env: { MILLPOND_BOOTSTRAP: kafka.bootstrap }, ...options });
    const reached: number[] = [await sink.open()];
    for (let n = 0; n < KILLS; n++) {
      const children = [0, 1].map(() => startChild(kafka.bootstrap));
      const ends = children.map(({ child }) => once(child, "close"));
      await Promise.all(children.map(({ child }) => once(child.stdout!, "data")));
      for (const { child } of children) {
        await delay(random.between(50, 600));
        child.kill("SIGKILL");
      }
      await Promise.all(ends);
      for (const { stderr } of children) expect(stderr()).toBe("");
      reached.push(await sink.open());
    }
    expect(reached, "progress never goes back").toEqual(reached.toSorted((a, b) => a - b));
    await sink.apply(stream(rows.publications), PUBLICATIONS);
    await sink.close();
    const records = await readByKcat(kafka.bootstrap, "out");
    const places = records.map(({ headers }) => headers["millpond-source"]?.split("/")[2]);
    const expected = rows.publications.flatMap((_, n) => offsetsOf(n));
    const message = `seed ${random.seed}, progress ${reached.join(" ")}`;
    expect(
      places.map(Number).toSorted((a, b) => a - b),
      message,
    ).toEqual(expected);
  }, 120_000);
});

const offsetsOf = (publication: number): number[] =>
  Array.from({ length: 20 }, (_, i) => publication * 20 + i);

function startChild(bootstrap: string): { child: ChildProcess; stderr: () => string } {
  const args = ["--no-warnings", CHILD, bootstrap, "out", String(PUBLICATIONS)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (data) => (text += data));
  return { child, stderr: () => text };
}
