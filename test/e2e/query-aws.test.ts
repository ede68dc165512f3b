/** `millpond query --s3` and `--endpoint` as processes, against results on S3. */
import { spawn } from "node:child_process";
import { createHash, createHmac } from "node:crypto";
import * as fs from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeQuery, type QueryHandler } from "../../lib/handlers/query.js";
import { makeSink } from "../../lib/handlers/sink.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { clickRecords, clicksPipeline } from "../unit/handlers/clicks.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";

const CLI = fileURLToPath(new URL("../../dist/bin/millpond.js", import.meta.url));
const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;
const context = { getRemainingTimeInMillis: () => 30_000 };
const write = () => undefined;

describe.skipIf(missing !== null)(title, () => {
  const before = { ...process.env };
  const pipeline = clicksPipeline();
  const name = pipeline.definition.name;
  let aws: Ministack;
  let env: Record<string, string>;
  let handler: QueryHandler;
  let server: Server;
  let endpoint = "";
  let dir = "";
  /** What the server says of the last request's signature. */
  let signature = "";

  beforeAll(async () => {
    aws = await startMinistack();
    Object.assign(process.env, aws.env);
    dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-test-"));
    const resources = await makeAwsResources(aws.env);
    env = { ...aws.env, ...resources, MILLPOND_PREFIX: "some/where/", MILLPOND_PIPELINE: name };
    const records = [...clickRecords(300)];
    const event = kafkaEvent([{ topic: "clicks", partition: 0, records }]);
    await makeProcessor({ pipeline, env, write })(event, context);
    const sink = makeSink({ pipeline, env, write });
    await sink({ flush: true }, context);
    await sink.close();
    handler = makeQuery({ env, write });
    server = createServer((incoming, outgoing) => {
      void bodyOf(incoming).then(async (body) => {
        signature = checkSignature(incoming, body, env);
        const answer = await handler({ requestContext: {}, body }, context);
        outgoing.writeHead(answer.statusCode, answer.headers);
        outgoing.end(Buffer.from(answer.body, answer.isBase64Encoded ? "base64" : "utf8"));
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  });
  afterAll(async () => {
    server?.close();
    await handler?.close();
    process.env = before;
    await fs.rm(dir, { recursive: true, force: true });
    await aws?.stop();
  });

  function query(...args: string[]): Promise<{ status: number | null; out: string; err: string }> {
    const child = spawn(process.execPath, ["--no-warnings", CLI, "query", ...args], {
      env: { ...process.env, AWS_CONFIG_FILE: "none", AWS_SHARED_CREDENTIALS_FILE: "none" },
    });
    let [out, err] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (err += text));
    return new Promise((done) => child.on("close", (status) => done({ status, out, err })));
  }
  const places = () => [
    ["--s3", `s3://${env.MILLPOND_BUCKET}/some/where`],
    ["--endpoint", endpoint],
  ];
  const SQL = "SELECT page, count(*) AS windows FROM pages GROUP BY page ORDER BY page";

  test("both ways give the same, in every format", async () => {
    for (const format of ["table", "json", "csv"]) {
      const [direct, asked] = await Promise.all(
        places().map((place) => query(...place, "--format", format, SQL)),
      );
      expect(direct).toMatchObject({ status: 0, err: "" });
      expect(asked).toEqual(direct);
      expect(signature).toBe("valid");
      if (format === "json") expect(JSON.parse(direct!.out)).toHaveLength(5);
    }
    const bronze = 'SELECT count(*) AS n, min("offset") AS first FROM bronze';
    for (const place of places()) {
      expect(JSON.parse((await query(...place, "--json", bronze)).out)).toMatchObject([{ n: 300 }]);
    }
  }, 60_000);

  test("Parquet into a file, with parameters", async () => {
    for (const [index, place] of places().entries()) {
      const file = path.join(dir, `${index}.parquet`);
      const flags = ["--format", "parquet", "--output", file, "--param", "page=/2"];
      const sql = "SELECT page, $page AS asked FROM pages WHERE page = $page LIMIT 1";
      expect(await query(...place, ...flags, sql)).toEqual({ status: 0, out: "", err: "" });
      const instance = await DuckDBInstance.create(":memory:");
      const connection = await instance.connect();
      const reader = await connection.runAndReadAll(`FROM '${file}'`);
      expect(reader.getRows()).toEqual([["/2", "/2"]]);
      instance.closeSync();
    }
  }, 60_000);

  test("errors say what to do", async () => {
    const [s3, url] = places();
    for (const place of [s3!, url!]) {
      const refused = await query(...place, "DROP TABLE pages");
      expect(refused).toMatchObject({ status: 7, out: "" });
      expect(refused.err).toMatch(/^error: the query was refused because it is DROP: .*\n$/);
      expect((await query(...place, "FROM nope")).err).toMatch(/Tables here: accounting, bronze/);
      expect((await query(...place, "")).err).toMatch(/it is empty/);
      expect((await query(...place, "-- one\nSELECT 1 AS n")).out).toMatch(/^n\n/);
      expect((await query(...place, "EXPLAIN SELECT 1")).status).toBe(0);
    }
    const bucket = `s3://${env.MILLPOND_BUCKET}`;
    expect((await query("--s3", bucket, "SELECT 1")).err).toMatch(/found no database in s3:/);
    const other = await query(...s3!, "--pipeline", "other", "SELECT 1");
    expect(other.err).toMatch(/databases\/other\.duckdb does not exist/);
    expect((await query("--s3", "bucket", "SELECT 1")).err).toMatch(/expected s3:/);
    expect((await query("SELECT 1")).err).toMatch(/give --out, --s3 or --endpoint/);
    expect((await query(...s3!, ...url!, "SELECT 1")).err).toMatch(/found several/);
    expect((await query("--endpoint", "http://example.com", "SELECT 1")).err).toMatch(/https:/);
    const dead = await query("--endpoint", "http://127.0.0.1:1/", "SELECT 1");
    expect(dead).toMatchObject({ status: 5, out: "" });
    expect(dead.err).toMatch(/cannot reach http:\/\/127\.0\.0\.1:1/);
  }, 120_000);
});

async function bodyOf(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** Signature Version 4, by the text of its specification. */
function checkSignature(
  incoming: IncomingMessage,
  body: string,
  env: Readonly<Record<string, string>>,
): string {
  const authorization = incoming.headers.authorization ?? "";
  const parts =
    /^AWS4-HMAC-SHA256 Credential=([^,]+), SignedHeaders=([^,]+), Signature=(\w+)$/.exec(
      authorization,
    );
  if (parts === null) return `no authorization: ${authorization}`;
  const [, credential = "", signedHeaders = "", found = ""] = parts;
  const [key, date = "", region = "", service = ""] = credential.split("/");
  if (key !== env.AWS_ACCESS_KEY_ID || service !== "lambda") return `credential ${credential}`;
  if (!signedHeaders.split(";").includes("host")) return "the host is not signed";
  const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
  const hmac = (by: string | Buffer, text: string) =>
    createHmac("sha256", by).update(text).digest();
  const headers = signedHeaders
    .split(";")
    .map((header) => `${header}:${String(incoming.headers[header]).trim()}\n`)
    .join("");
  const canonical = ["POST", incoming.url, "", headers, signedHeaders, sha256(body)].join("\n");
  const scope = `${date}/${region}/${service}/aws4_request`;
  const stamp = String(incoming.headers["x-amz-date"]);
  const text = ["AWS4-HMAC-SHA256", stamp, scope, sha256(canonical)].join("\n");
  const steps = [region, service, "aws4_request"];
  const start = hmac(`AWS4${env.AWS_SECRET_ACCESS_KEY}`, date);
  const signing = steps.reduce((by, step) => hmac(by, step), start);
  const expected = hmac(signing, text).toString("hex");
  return expected === found ? "valid" : "wrong";
}
