/** docker-compose.yml, where no Docker is: by the published schema, and by what the tests run. */
import * as fs from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { pythonWith, run } from "../servers/cache.js";

interface Service {
  readonly image: string;
  readonly ports: readonly string[];
  readonly volumes?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck: { readonly test: readonly string[] };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
}

const FILES = ["docker-compose.yml", "docker-compose.localstack.yml"];
const read = (name: string) => fs.readFileSync(name, "utf8");
const { services, volumes } = parse(read("docker-compose.yml")) as {
  services: Readonly<Record<string, Service>>;
  volumes: Readonly<Record<string, null>>;
};

/** It holds the schema of the Compose specification. */
const CHECKER = "check-jsonschema";
const CHECKER_VERSION = "0.39.0";

async function checker(): Promise<string | null> {
  try {
    return await pythonWith(`${CHECKER}-${CHECKER_VERSION}`, [`${CHECKER}==${CHECKER_VERSION}`]);
  } catch {
    return null;
  }
}

const python = await checker();
const missing = python === null ? ` (python3 with venv and ${CHECKER} are not to be had)` : "";

describe.skipIf(python === null)(`the Compose specification's schema${missing}`, () => {
  const check = (file: string) =>
    run(python!, ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file]);

  test.each(FILES)("takes %s", async (file) => {
    expect((await check(file)).stdout).toContain("validation done");
  });

  test("would refuse a wrong file", async () => {
    const file = "docker-compose.wrong.yml";
    fs.writeFileSync(file, read(FILES[0]!).replace("healthcheck:", "healthchecks:"));
    try {
      await expect(check(file)).rejects.toThrow();
    } finally {
      fs.rmSync(file);
    }
  });
});

test("versions are pinned, and those that tests run", () => {
  const versionIn = (file: string, pattern: RegExp) => pattern.exec(read(file))?.[1];
  const kafka = versionIn("test/servers/kafka.ts", /VERSION = "([\d.]+)"/);
  const exporter = versionIn("lib/observe/kafka-metrics.ts", /kafka_exporter (\d[\d.]*\d)/);
  const { devDependencies } = JSON.parse(read("package.json"));
  const images = Object.values(services).map(({ image }) => image);
  expect(images).toEqual([
    `apache/kafka:${kafka}`,
    // Debian 12's packages, which tests start, are 15 and 2.42.
    expect.stringMatching(/^postgres:15\.\d+$/),
    `danielqsj/kafka-exporter:v${exporter}.0`,
    "prom/prometheus:v2.42.0",
    `grafana/grafana:${devDependencies["@grafana/schema"]}`,
  ]);
});

test("services have health checks, ports of this machine alone, and files that are here", () => {
  for (const [name, service] of Object.entries(services)) {
    expect(service.healthcheck.test[0], name).toBe("CMD");
    for (const port of service.ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    for (const volume of service.volumes ?? []) {
      const [from = ""] = volume.split(":");
      if (!from.startsWith("./")) expect(Object.keys(volumes)).toContain(from);
      else expect([fs.existsSync(from), volume.endsWith(":ro")]).toEqual([true, true]);
    }
    for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
      expect([Object.keys(services).includes(other), condition]).toEqual([true, "service_healthy"]);
    }
  }
});

test("Prometheus reads services by their names and ports", () => {
  const { scrape_configs } = parse(read("monitoring/prometheus/prometheus.yml"));
  const targets = scrape_configs.map(
    (one: { static_configs: [{ targets: [string] }] }) => one.static_configs[0].targets[0],
  );
  expect(targets).toEqual(["host.docker.internal:9464", "kafka-exporter:9308"]);
  expect(services["kafka-exporter"]?.ports).toEqual(["127.0.0.1:9308:9308"]);
  expect(read("docker-compose.yml")).toContain("--metrics-port 0.0.0.0:9464");
});
