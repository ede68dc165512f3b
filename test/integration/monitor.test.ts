/** `millpond monitor` as a process: a real webhook, SNS on an emulator, a real output directory. */
import type { ChildProcess } from "node:child_process";
import * as fs from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import * as path from "node:path";
import {
  ConfirmSubscriptionCommand,
  CreateTopicCommand,
  SNSClient,
  SubscribeCommand,
} from "@aws-sdk/client-sns";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ended, jsonLines, millpond, start, succeed, testDir, write } from "../e2e/support/cli.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { until } from "../servers/prometheus.js";

const dir = testDir("monitor");

interface Received {
  readonly url: string;
  readonly body: Record<string, unknown>;
}

/** A server that answers as told, and keeps what it got. */
class Listener {
  readonly received: Received[] = [];
  readonly server: Server;
  /** Status codes of the next answers; 200 afterwards, null for none at all. */
  answers: (number | null)[] = [];
  page = "";

  constructor() {
    this.server = createServer((request, response) => {
      void textOf(request).then((text) => {
        if (request.method === "GET") return response.end(this.page);
        const status = this.answers.length > 0 ? this.answers.shift()! : 200;
        if (status === null) return request.socket.destroy();
        this.received.push({ url: request.url ?? "", body: JSON.parse(text) });
        return response.writeHead(status, { location: "http://127.0.0.1:1/" }).end();
      });
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of request.setEncoding("utf8")) text += part;
  return text;
}

const state = (bytes: number) => `millpond_state_bytes{pipeline="p",partition="0"} ${bytes}\n`;

const listeners: Listener[] = [];
const children: ChildProcess[] = [];
afterEach(async () => {
  for (const { server } of listeners.splice(0)) server.closeAllConnections();
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await ended(child);
  }
});

async function listening() {
  const listener = new Listener();
  listeners.push(listener);
  return { listener, url: await listener.listen() };
}

/** A monitor at work, and the JSON lines it has said. */
function watch(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = start(["monitor", ...args, "--json", "--interval", "0.2"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  children.push(child);
  let said = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const lines = () => jsonLines(said.slice(0, said.lastIndexOf("\n") + 1));
  const heard = (kind: string) =>
    until(
      async () => lines(),
      (found) => found.some((line) => line.kind === kind || line.status === kind),
      kind,
    );
  return { child, lines, heard };
}

const FULL = ["--threshold", "StateBytes=100", "--for", "StateBytes=0"];

describe("a webhook", () => {
  test("hears that an alert rings, once, and that it is over, once", async () => {
    const { listener, url } = await listening();
    listener.page = state(50);
    const secret = `${url}/hooks/secret`;
    const env = { MILLPOND_WEBHOOK: secret };
    const monitor = watch(["--metrics", `${url}/metrics`, ...FULL], env);
    const [, note] = await monitor.heard("unjudged");
    expect(note).toMatchObject({ message: expect.stringMatching(/ConsumerLag.*DeadLetters/) });
    listener.page = state(120);
    await monitor.heard("firing");
    listener.page = state(130);
    // It goes on for several looks.
    await until(
      async () => listener.received.length,
      (n) => n > 0,
      "a call",
    );
    listener.page = state(20);
    await monitor.heard("resolved");
    await until(
      async () => listener.received.length,
      (n) => n === 2,
      "two calls",
    );
    monitor.child.kill("SIGINT");
    expect(await ended(monitor.child)).toBe(0);
    expect(listener.received.map(({ url: at }) => at)).toEqual(["/hooks/secret", "/hooks/secret"]);
    const common = { alert: "StateBytes", labels: { pipeline: "p" }, threshold: 100 };
    expect(listener.received[0]!.body).toMatchObject({
      ...common,
      status: "firing",
      severity: "warning",
      value: 120,
      text: expect.stringMatching(/^\[firing\] StateBytes p: .* What to do: /),
      since: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    expect(listener.received[1]!.body).toMatchObject({ ...common, status: "resolved" });
    expect(JSON.stringify(monitor.lines())).not.toContain("secret");
  });

  test("that fails is tried again, at the next look too; its secret is not told", async () => {
    const { listener, url } = await listening();
    listener.page = state(120);
    // Three tries of the first look, a refusal and a redirect at the next ones, then it takes it.
    listener.answers = [500, null, 503, 404, 307];
    const args = ["--metrics", `${url}/metrics`, "--webhook", `${url}/secret`, ...FULL];
    const monitor = watch(args);
    await until(
      async () => listener.received.length,
      (n) => n === 5,
      "five calls",
    );
    const lines = monitor.lines();
    const troubles = lines.filter(({ kind }) => kind === "trouble").map((one) => one.message);
    expect(troubles).toHaveLength(3);
    expect(troubles[0]).toMatch(/did not reach webhook at 127\.0\.0\.1:\d+: status 503/);
    expect(troubles[1]).toMatch(/status 404/);
    expect(troubles[2]).toMatch(/status 307/);
    expect(JSON.stringify(lines)).not.toContain("secret");
    // The log heard it once.
    expect(lines.filter(({ kind }) => kind === "alert")).toHaveLength(1);
  });

  test("is told again by a monitor that was started anew only when it is time", async () => {
    const { listener, url } = await listening();
    listener.page = state(120);
    const file = path.join(dir, "again.json");
    const args = ["--metrics", `${url}/metrics`, "--webhook", url, "--state", file, ...FULL];
    const first = watch(args);
    await until(
      async () => fs.existsSync(file) && fs.readFileSync(file, "utf8").includes('"webhook"'),
      (isKept) => isKept,
      "the state",
    );
    first.child.kill("SIGKILL");
    const second = watch(args);
    await second.heard("unjudged");
    expect(listener.received).toHaveLength(1);
    second.child.kill("SIGKILL");
    await ended(second.child);
    const soon = watch([...args, "--repeat", "0.0001"]);
    await soon.heard("firing");
    expect(listener.received.length).toBeGreaterThan(1);
  });
});

describe("what can't be read", () => {
  test("rings by itself, and leaves what rang before as it was", async () => {
    const { listener, url } = await listening();
    listener.page = state(120);
    const flags = [...FULL, "--for", "MetricsUnreadable=0"];
    const monitor = watch(["--metrics", `${url}/metrics`, ...flags]);
    await monitor.heard("firing");
    listener.page = "<html>not metrics</html>\n";
    await monitor.heard("trouble");
    await until(
      async () => monitor.lines(),
      (lines) => lines.some(({ alert }) => alert === "MetricsUnreadable"),
      "MetricsUnreadable",
    );
    listener.page = state(120);
    await monitor.heard("resolved");
    const alerts = monitor.lines().filter(({ kind }) => kind === "alert");
    expect(alerts.map(({ alert, status }) => `${alert} ${status}`)).toEqual([
      "StateBytes firing",
      "MetricsUnreadable firing",
      "MetricsUnreadable resolved",
    ]);
  });

  test("is a wrong command line where it can never be", () => {
    const wrong = [
      [[], /give --metrics <url> or --out/],
      [["--metrics", "nowhere"], /no address: expected http/],
      [["--metrics", "http://127.0.0.1:1/", "--once"], /--once needs --state/],
      [["--metrics", "http://127.0.0.1:1/", "--webhook", "file:///etc/passwd"], /no address/],
      [["--metrics", "http://127.0.0.1:1/", "--sns", "topic"], /no SNS topic: expected arn/],
      [["--out", dir, "--threshold", "Nothing=1"], /expected one of MetricsUnreadable/],
      [["--out", dir, "--for", "DeadLetters=-1"], /expected DeadLetters=<number>/],
    ] as const;
    for (const [args, message] of wrong) {
      const { status, stderr } = millpond("monitor", ...args);
      expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
    }
  });
});

describe("an output directory, looked at once", () => {
  const out = path.join(dir, "out");
  const file = path.join(dir, "events", "part-0.ndjson");
  const state = path.join(dir, "once.json");
  const event = (i: number) =>
    JSON.stringify({ id: `e${i}`, at: new Date(1_700_000_000_000 + i).toISOString() });
  const pipeline = write(
    path.join(dir, "once.ts"),
    `import { count, minutes, pipeline, stream, string, timestamp, tumbling } from "millpond";
    const events = stream("events", {
      schema: { id: string(), at: timestamp() }, eventTime: "at", lateness: minutes(1),
    });
    export default pipeline("once", {
      counts: events.window(tumbling(minutes(1))).aggregate({ n: count() }),
    });`,
  );
  const run = (lines: readonly string[]) => {
    fs.appendFileSync(write0(file), `${lines.join("\n")}\n`);
    succeed("run", pipeline, "--input", `${dir}/events`, "--out", out, "--no-flush");
  };
  const once = (...more: string[]) =>
    millpond("monitor", "--out", out, "--once", "--state", state, "--json", ...more);
  const DEAD = ["--threshold", "DeadLetters=10"];

  test("rings by its exit code when dead letters rise, and not twice by its log", () => {
    run([event(1), ...Array.from({ length: 40 }, () => "no json")]);
    // What was there before anyone looked has not grown.
    expect(once(...DEAD)).toMatchObject({ status: 0, stdout: "", stderr: "" });
    run([event(2), ...Array.from({ length: 9 }, () => "no json")]);
    expect(once(...DEAD)).toMatchObject({ status: 0, stdout: "" });
    run(["no json"]);
    const found = once(...DEAD);
    expect(found.status).toBe(8);
    expect(jsonLines(found.stdout)).toMatchObject([
      { alert: "DeadLetters", status: "firing", value: 10, labels: { pipeline: "once" } },
    ]);
    expect(once(...DEAD)).toMatchObject({ status: 8, stdout: "" });
  });

  test("goes on when its state was damaged, and says so", () => {
    fs.writeFileSync(state, "{damaged");
    const found = once(...DEAD);
    expect([found.status, jsonLines(found.stdout)]).toMatchObject([0, [{ kind: "trouble" }]]);
    expect(once(...DEAD)).toMatchObject({ status: 0, stdout: "" });
  });

  test("says what is wrong with its state or its directory", () => {
    const nowhere = millpond(
      ...["monitor", "--out", out, "--once", "--state", path.join(dir, "no", "where.json")],
    );
    expect([nowhere.status, nowhere.stderr]).toEqual([5, expect.stringMatching(/can't be kept/)]);
    const empty = millpond("monitor", "--out", dir, "--once", "--state", path.join(dir, "e.json"));
    expect(empty.stdout).toMatch(/holds no results|no results/);
  });
});

/** The file, made when it is not there. */
function write0(file: string): string {
  if (!fs.existsSync(file)) write(file, "");
  return file;
}

const missing = await setUpMinistack();

describe.skipIf(missing !== null)(`SNS${missing === null ? "" : ` (${missing})`}`, () => {
  let aws: Ministack;
  beforeAll(async () => {
    aws = await startMinistack();
  });
  afterAll(async () => {
    await aws?.stop();
  });

  test("publishes what rings to the topic, and to a topic that is missing says so", async () => {
    const { listener, url } = await listening();
    listener.page = state(120);
    const client = new SNSClient({
      endpoint: aws.endpoint,
      region: "us-east-1",
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
    });
    const { TopicArn } = await client.send(new CreateTopicCommand({ Name: "alerts" }));
    const Endpoint = `${url}/sns`;
    await client.send(new SubscribeCommand({ TopicArn, Protocol: "http", Endpoint }));
    const [asked] = await until(
      async () => listener.received,
      (all) => all.length > 0,
      "the question whether to subscribe",
    );
    const Token = String(asked!.body.Token);
    await client.send(new ConfirmSubscriptionCommand({ TopicArn, Token }));
    client.destroy();
    const monitor = watch(["--metrics", `${url}/metrics`, "--sns", TopicArn!, ...FULL], aws.env);
    const isNotice = ({ body }: Received) => body.Type === "Notification";
    await until(
      async () => listener.received,
      (all) => all.some(isNotice),
      "a notification",
    );
    const { body } = listener.received.find(isNotice)!;
    expect(body.Subject).toBe("Millpond firing: StateBytes");
    expect(body.Message).toMatch(/^\[firing\] StateBytes p: /);
    monitor.child.kill("SIGKILL");
    const missingTopic = TopicArn!.replace("alerts", "nobody");
    const other = watch(["--metrics", `${url}/metrics`, "--sns", missingTopic, ...FULL], aws.env);
    const lines = await other.heard("trouble");
    expect(lines.find(({ kind }) => kind === "trouble")?.message).toMatch(/did not reach arn:aws/);
  });
});
