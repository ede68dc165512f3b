/** `npm run localstack` and its compose file: the script against MiniStack, the file's contents. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { startKafka, type TestKafka } from "../servers/kafka.js";
import { type Ministack, startMinistack } from "../servers/ministack.js";
import { setUpCloud } from "./cloud.js";

const missing = await setUpCloud();
const title = missing === null ? "npm run localstack" : `npm run localstack (skipped: ${missing})`;

interface Service {
  readonly image: string;
  readonly profiles?: readonly string[];
  readonly ports: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly healthcheck: { readonly test: readonly string[] };
}

describe("docker-compose.localstack.yml", () => {
  const text = readFileSync("docker-compose.localstack.yml", "utf8");
  const { services } = parse(text) as { services: Readonly<Record<string, Service>> };

  test("versions are those that tests run", () => {
    const versionIn = (file: string, pattern: RegExp) =>
      pattern.exec(readFileSync(file, "utf8"))?.[1];
    const images = Object.values(services).map(({ image }) => image);
    expect(images).toEqual([
      `apache/kafka:${versionIn("test/servers/kafka.ts", /VERSION = "([\d.]+)"/)}`,
      // The last image that starts without an account.
      "localstack/localstack:4.14.0",
      `ministackorg/ministack:${versionIn("test/servers/ministack.ts", /VERSION = "([\d.]+)"/)}`,
    ]);
  });

  test("every service has a health check, and ports of this machine alone", () => {
    for (const { healthcheck, ports } of Object.values(services)) {
      expect(healthcheck.test[0]).toBe("CMD");
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    }
  });

  test("the broker's name for functions is the one that the profile has", () => {
    expect(services.kafka?.environment.KAFKA_ADVERTISED_LISTENERS).toContain("kafka:19092");
    expect(readFileSync("lib/aws/app-settings.ts", "utf8")).toContain('"kafka:19092"');
  });
});

describe.skipIf(missing !== null)(title, () => {
  let kafka: TestKafka;
  let aws: Ministack;
  beforeAll(async () => {
    kafka = await startKafka();
    aws = await startMinistack();
  });
  afterAll(async () => {
    await aws?.stop();
    await kafka?.stop();
  });

  test("deploys the profile by cdk.json's own app, and answers with the demo's rows", async () => {
    const { stdout } = await promisify(execFile)("node", ["dist/bin/localstack.js"], {
      env: {
        ...process.env,
        MILLPOND_EMULATOR: aws.endpoint,
        MILLPOND_BOOTSTRAP: kafka.bootstrap,
        MILLPOND_EVENTS: "5000",
      },
      timeout: 240_000,
    });
    expect(stdout).toContain('"done":true');
    expect(stdout).toContain("most_users_a_minute");
    expect(stdout.match(/'\//g)?.length).toBe(5);
  }, 300_000);
});
