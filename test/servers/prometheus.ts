/** Prometheus and promtool of the Debian package, as plain processes. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { stringify } from "yaml";
import { freePort, run } from "./cache.js";
import { startServer, stopServer } from "./process.js";

const QUERY_WAIT_MS_MAX = 60_000;
const POLL_MS = 250;

export interface PrometheusOptions {
  /** Addresses (`host:port`) by job. */
  readonly targets: Readonly<Record<string, string>>;
  /** Content of a rule file, before it becomes YAML. */
  readonly rules?: object;
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface TestPrometheus {
  readonly url: string;
  /** An instant query's samples. Throws what Prometheus says of a wrong one. */
  query(expr: string): Promise<Sample[]>;
  /** The samples once they fit; throws with the last ones after a minute. */
  queryUntil(expr: string, fits: (samples: readonly Sample[]) => boolean): Promise<Sample[]>;
  stop(): Promise<void>;
}

/** Null when both programs are here; otherwise what to install. */
export async function setUpPrometheus(): Promise<string | null> {
  try {
    await run("prometheus", ["--version"]);
    await run("promtool", ["--version"]);
    return null;
  } catch {
    return "prometheus is not here: install it (Debian: apt-get install prometheus)";
  }
}

/** @example const prometheus = await startPrometheus({ targets: { millpond: address } }); */
export async function startPrometheus(options: PrometheusOptions): Promise<TestPrometheus> {
  const dir = mkdtempSync(path.join(tmpdir(), "millpond-prometheus-"));
  const rules = path.join(dir, "rules.yml");
  writeFileSync(rules, stringify(options.rules ?? { groups: [] }));
  const file = path.join(dir, "prometheus.yml");
  writeFileSync(file, stringify(configuration(options, rules)));
  const address = `127.0.0.1:${await freePort()}`;
  const url = `http://${address}`;
  const child = await startServer({
    name: "Prometheus",
    command: "prometheus",
    args: [
      ...[`--config.file=${file}`, `--storage.tsdb.path=${path.join(dir, "data")}`],
      ...[`--web.listen-address=${address}`, "--log.level=warn"],
    ],
    cwd: dir,
    env: { PATH: process.env.PATH ?? "" },
    isReady: async () => (await fetch(`${url}/-/ready`)).ok,
  });
  const query = (expr: string) => askPrometheus(url, expr);
  return {
    url,
    query,
    queryUntil: (expr, fits) => until(() => query(expr), fits, expr),
    async stop() {
      await stopServer(child);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function configuration({ targets }: PrometheusOptions, rules: string): object {
  return {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: [rules],
    scrape_configs: Object.entries(targets).map(([job, address]) => ({
      job_name: job,
      static_configs: [{ targets: [address] }],
    })),
  };
}

async function askPrometheus(url: string, expr: string): Promise<Sample[]> {
  const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expr })}`);
  // As its API's description has it.
  const answer = (await response.json()) as PrometheusAnswer;
  if (answer.status !== "success") throw new Error(`${expr}: ${answer.error}`);
  const { resultType, result } = answer.data;
  if (resultType !== "vector") throw new Error(`${expr} gives a ${resultType}`);
  return result.map(({ metric: labels, value: [, text] }) => ({ labels, value: Number(text) }));
}

interface PrometheusAnswer {
  readonly status: "success" | "error";
  readonly error?: string;
  readonly data: {
    readonly resultType: string;
    readonly result: readonly {
      readonly metric: Sample["labels"];
      readonly value: readonly [number, string];
    }[];
  };
}

/** Asks again until the answer fits. */
export async function until<T>(
  ask: () => Promise<T>,
  fits: (answer: T) => boolean,
  what: string,
): Promise<T> {
  const giveUpAt = Date.now() + QUERY_WAIT_MS_MAX;
  for (;;) {
    const answer = await ask();
    if (fits(answer)) return answer;
    if (Date.now() > giveUpAt) throw new Error(`waited for ${what}: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
