/** The query handler over results on S3: answers and formats, what it can't reach, its limits. */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeQuery, type QueryHandler, type QueryResponse } from "../../lib/handlers/query.js";
import { makeSink } from "../../lib/handlers/sink.js";
import { clientConfig, createBucket, makeAwsResources } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { clickRecords, clicksPipeline } from "../unit/handlers/clicks.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { fetchResults } from "./support/aws-results.js";
import { withResults } from "./support/check.js";

const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;
const context = { getRemainingTimeInMillis: () => 30_000 };
const write = () => undefined;
const RECORDS = 600;
const PAGES = "SELECT page, sum(views)::BIGINT AS views FROM pages GROUP BY page ORDER BY page";

describe.skipIf(missing !== null)(title, () => {
  const before = { ...process.env };
  const pipeline = clicksPipeline();
  let aws: Ministack;
  let env: Record<string, string>;
  let s3: S3Client;
  let query: QueryHandler;
  let parquetFile = "";

  const ask = (request: unknown) => query(request, context);
  const put = async (bucket: string, key: string) =>
    s3.send(
      new PutObjectCommand({ Bucket: bucket, Key: key, Body: await fs.readFile(parquetFile) }),
    );
  const processAndSink = async (from: number, to: number) => {
    const records = clickRecords(RECORDS).slice(from, to);
    await makeProcessor({ pipeline, env, write })(
      kafkaEvent([{ topic: "clicks", partition: 0, records: [...records] }], "aws:kafka"),
      context,
    );
    const sink = makeSink({ pipeline, env, write });
    await sink({ flush: true }, context);
    await sink.close();
  };

  beforeAll(async () => {
    aws = await startMinistack();
    Object.assign(process.env, aws.env);
    const name = pipeline.definition.name;
    env = { ...aws.env, ...(await makeAwsResources(aws.env)), MILLPOND_PIPELINE: name };
    s3 = new S3Client({ ...clientConfig(aws.env), endpoint: aws.endpoint, forcePathStyle: true });
    await createBucket(aws.env, "somebody-else");
    parquetFile = path.join(await fs.mkdtemp(path.join(tmpdir(), "millpond-test-")), "x.parquet");
    const instance = await DuckDBInstance.create(":memory:");
    const connection = await instance.connect();
    await connection.run(`COPY (SELECT 42 AS secret) TO '${parquetFile}' (FORMAT parquet)`);
    instance.closeSync();
    const { MILLPOND_BUCKET: bucket = "" } = env;
    await put("somebody-else", "x.parquet");
    await put(bucket, "datasets/x.parquet");
    await put(bucket, `lake/${name}/pages/event_date=2025-01-01/unnamed.parquet`);
    await processAndSink(0, 400);
    query = makeQuery({ env, write });
  });
  afterAll(async () => {
    await query?.close();
    process.env = before;
    await fs.rm(path.dirname(parquetFile), { recursive: true, force: true });
    await aws?.stop();
  });

  /** The same by another reader: DuckDB attaches the database over S3. */
  async function viewsByPage(): Promise<unknown> {
    const out = path.join(path.dirname(parquetFile), randomUUID());
    const held = await fetchResults(pipeline.definition.name, env, out);
    expect(held).toEqual(["bronze"]);
    return withResults([out], async (connection) => {
      await connection.run("USE run0");
      return (await connection.runAndReadAll(PAGES)).getRowObjectsJson();
    });
  }

  test("JSON, from tables that are held inside", async () => {
    const answer = await ask({ sql: PAGES });
    expect(answer).toMatchObject({ statusCode: 200, isBase64Encoded: false });
    const rows: { page: string; views: number }[] = JSON.parse(answer.body);
    expect(rows).toHaveLength(5);
    expect(rows.map(({ page, views }) => ({ page, views: `${views}` }))).toEqual(
      await viewsByPage(),
    );
  });

  test("a function URL's event, CSV, and a view over the lake's files", async () => {
    const body = JSON.stringify({ sql: "SELECT count(*) AS n FROM bronze", format: "csv" });
    const event = { version: "2.0", requestContext: { http: { method: "POST" } }, body };
    expect((await ask(event)).body).toBe("n\r\n400\r\n");
    const encoded = { ...event, body: Buffer.from(body).toString("base64"), isBase64Encoded: true };
    expect((await ask(encoded)).body).toBe("n\r\n400\r\n");
  });

  test("Parquet, with parameters", async () => {
    const sql = "SELECT page, $n + 0.5 AS n FROM pages WHERE page = $page LIMIT 1; -- the end";
    const request = { sql, parameters: { page: "/1", n: 7 }, format: "parquet" };
    const answer = await ask(request);
    expect(answer).toMatchObject({ statusCode: 200, isBase64Encoded: true });
    const file = path.join(path.dirname(parquetFile), "answer.parquet");
    await fs.writeFile(file, Buffer.from(answer.body, "base64"));
    const instance = await DuckDBInstance.create(":memory:");
    const connection = await instance.connect();
    const reader = await connection.runAndReadAll(`SELECT page, n::DOUBLE FROM '${file}'`);
    expect(reader.getRows()).toEqual([["/1", 7.5]]);
    instance.closeSync();
  });

  test("parameters are values, never SQL", async () => {
    const evil = "'; DROP TABLE pages; --";
    const answer = await ask({
      sql: "SELECT $a AS a, $b AS b, $c AS c, $d AS d",
      parameters: { a: evil, b: 1.5, c: null, d: true },
    });
    expect(JSON.parse(answer.body)).toEqual([{ a: evil, b: 1.5, c: null, d: true }]);
    const inOrder = await ask({ sql: "SELECT ? AS a, ? AS b", parameters: ["x", 2] });
    expect(JSON.parse(inOrder.body)).toEqual([{ a: "x", b: 2 }]);
    const missingOne = await ask({ sql: "SELECT $a", parameters: { b: 1 } });
    expect(errorOf(missingOne)).toMatch(/\$a has no value; it takes \$a/);
    const tooMany = await ask({ sql: "SELECT 1", parameters: { b: 1 } });
    expect(errorOf(tooMany)).toMatch(/has no \$b; it takes none/);
  });

  test("a plan, and errors that help", async () => {
    const plan = await ask({ sql: "/* why */ EXPLAIN ANALYZE SELECT count(*) FROM bronze" });
    expect(plan.statusCode).toBe(200);
    expect(plan.body).toContain("explain_value");
    expect(errorOf(await ask({ sql: "FROM nope" }))).toMatch(/accounting, bronze, dead_letters/);
    expect(errorOf(await ask({ sql: " -- nothing" }))).toMatch(/it is empty/);
    expect(errorOf(await ask({ sql: 5 }))).toMatch(/"sql" is no text/);
    expect(errorOf(await ask({ sql: "SELECT 1", format: "xml" }))).toMatch(/"format" is "xml"/);
    expect(errorOf(await ask({ requestContext: {}, body: "{" }))).toMatch(/body is not JSON/);
  });

  const attempts = [
    "FROM read_parquet('s3://somebody-else/x.parquet')",
    "FROM 's3://somebody-else/x.parquet'",
    "FROM read_parquet('s3://BUCKET/datasets/x.parquet')",
    "FROM read_parquet('s3://BUCKET/lake/PIPELINE/pages/event_date=2025-01-01/unnamed.parquet')",
    "FROM read_parquet('s3://BUCKET/lake/PIPELINE/bronze/**/*.parquet')",
    "FROM glob('s3://BUCKET/**')",
    "FROM read_text('s3://BUCKET/lake/PIPELINE/pages/_delta_log/00000000000000000000.json')",
    "FROM read_text('/etc/hostname')",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_csv('http://169.254.169.254/latest/meta-data/')",
    "FROM 'https://127.0.0.1/x.parquet'",
    "ATTACH 's3://BUCKET/databases/PIPELINE.duckdb' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH results",
    "USE memory",
    "INSTALL aws",
    "LOAD aws",
    "CREATE SECRET other (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "DROP SECRET millpond",
    "SET enable_external_access = true",
    "SET allowed_paths = ['/etc/hostname']",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "COPY pages TO 's3://BUCKET/stolen.parquet'",
    "COPY pages TO 's3://somebody-else/stolen.parquet'",
    "EXPLAIN ANALYZE COPY pages TO 's3://BUCKET/stolen.parquet'",
    "EXPLAIN (ANALYZE) COPY pages TO 's3://BUCKET/stolen.parquet'",
    "EXPLAIN /* */ ANALYZE INSERT INTO pages SELECT * FROM pages",
    "INSERT INTO pages SELECT * FROM pages",
    "UPDATE millpond.files SET uri = 's3://somebody-else/x.parquet'",
    "CREATE TABLE memory.main.t AS SELECT 1",
    "CREATE TEMP VIEW pages AS SELECT 1",
    "EXPORT DATABASE 's3://BUCKET/out'",
    "SELECT 1; SELECT 2",
    "FROM query('COPY pages TO ''s3://BUCKET/stolen.parquet''')",
    "SELECT getenv('AWS_SECRET_ACCESS_KEY')",
    "FROM duckdb_secrets(redact = false)",
    "FROM enable_logging()",
    "FROM system.main.\"Enable_Logging\"(storage = 'file', storage_config = {'path': '/tmp/x'})",
    "SELECT 1 WHERE EXISTS (FROM enable_profiling(save_location = '/tmp/x.txt'))",
    "PIVOT (FROM enable_logging()) ON Success IN (true) USING count(*)",
    "EXPLAIN ANALYZE FROM enable_logging()",
    "FROM query('FROM enable_' || 'logging()')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM enable_logging()'))",
    "FROM force_checkpoint('results')",
  ];

  test.each(attempts)("refused: %s", async (attempt) => {
    const { MILLPOND_BUCKET: bucket = "", MILLPOND_PIPELINE: name = "" } = env;
    const sql = attempt.replaceAll("BUCKET", bucket).replaceAll("PIPELINE", name);
    for (const format of ["json", "parquet"]) {
      const answer = await ask({ sql, format });
      expect(answer.statusCode).toBe(400);
      // A bucket's name is random, and may hold the digits of what must not be read.
      const told = String(answer.body).replaceAll(bucket, "BUCKET");
      expect(told).not.toMatch(/42|stolen.*stolen/);
    }
    const stolen = new GetObjectCommand({ Bucket: bucket, Key: "stolen.parquet" });
    await expect(s3.send(stolen)).rejects.toMatchObject({ name: "NoSuchKey" });
  });

  test("names and text that look like functions that act are names and text", async () => {
    const sql = "SELECT 'enable_logging()' AS query, $t AS checkpoint FROM pages LIMIT 1";
    const answer = await ask({ sql, parameters: { t: '"function_name":"query"' } });
    const row = { query: "enable_logging()", checkpoint: '"function_name":"query"' };
    expect(JSON.parse(answer.body)).toEqual([row]);
    const pivot = "PIVOT pages ON page IN ('/1', '/2') USING count(*)";
    expect((await ask({ sql: pivot })).statusCode).toBe(200);
  });

  test("a Parquet answer can't be made to write elsewhere", async () => {
    const sql = `SELECT 1) TO '${path.dirname(parquetFile)}/mine.parquet' --`;
    expect((await ask({ sql, format: "parquet" })).statusCode).toBe(400);
    await expect(fs.stat(path.join(path.dirname(parquetFile), "mine.parquet"))).rejects.toThrow();
  });

  test("credentials do not show", async () => {
    const answer = await ask({ sql: "FROM duckdb_secrets()" });
    expect(answer.body).not.toMatch(/secret=test/);
    expect(answer.body).toMatch(/redacted|QUERY/);
  });

  test("an answer that is too large is refused, and the next one is whole", async () => {
    const sql = "SELECT repeat('x', 1000) AS x FROM range(20000)";
    for (const format of ["json", "csv"]) {
      const answer = await ask({ sql, format });
      expect(answer.statusCode).toBe(413);
      expect(errorOf(answer)).toMatch(/larger than .* add a LIMIT/);
    }
    // One chunk of rows whose text is larger than any string may be.
    const wide = "SELECT {'a': repeat(chr(0), 1000000)} AS x FROM range(100)";
    for (const format of ["json", "csv"]) {
      expect((await ask({ sql: wide, format })).statusCode).toBe(413);
    }
    const random = "SELECT hash(i), hash(i + 1) FROM range(1000000) AS t(i)";
    expect((await ask({ sql: random, format: "parquet" })).statusCode).toBe(413);
    const escaped = "SELECT repeat(chr(10), 1000) AS x FROM range(3500)";
    expect((await ask({ sql: escaped, format: "csv" })).statusCode).toBe(413);
    expect(JSON.parse((await ask({ sql: "SELECT 1 AS n" })).body)).toEqual([{ n: 1 }]);
  });

  test("a query that takes too long, or too much memory, is stopped", async () => {
    const slow = "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b";
    const short = { getRemainingTimeInMillis: () => 1_800 };
    expect(errorOf(await query({ sql: slow }, short))).toMatch(/took too long and was stopped/);
    const small = makeQuery({ env: { ...env, AWS_LAMBDA_FUNCTION_MEMORY_SIZE: "300" }, write });
    const large = "SELECT count(DISTINCT hash(i)) FROM range(30000000) AS t(i)";
    expect(errorOf(await small({ sql: large }, context))).toMatch(/Out of Memory.*aggregate/i);
    await small.close();
    expect((await ask({ sql: "SELECT 1 AS n" })).statusCode).toBe(200);
  });

  test("new results are seen by the next query", async () => {
    const sql = "SELECT count(*) AS n FROM bronze";
    expect(JSON.parse((await ask({ sql })).body)).toEqual([{ n: 400 }]);
    await processAndSink(350, RECORDS);
    expect(JSON.parse((await ask({ sql })).body)).toEqual([{ n: RECORDS }]);
    const rows: { page: string; views: number }[] = JSON.parse((await ask({ sql: PAGES })).body);
    expect(rows.map(({ page, views }) => ({ page, views: `${views}` }))).toEqual(
      await viewsByPage(),
    );
  });

  test("many at once take turns", async () => {
    const asked = Array.from({ length: 8 }, (_, i) => ask({ sql: `SELECT ${i} AS n` }));
    const answers = await Promise.all(asked);
    expect(answers.map(({ body }) => JSON.parse(body)[0].n)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test("the same over a laptop's directory", async () => {
    const dir = path.join(path.dirname(parquetFile), "out");
    const local = { MILLPOND_STORE: `file:${dir}`, MILLPOND_PIPELINE: pipeline.definition.name };
    const records = [...clickRecords(100)];
    const event = kafkaEvent([{ topic: "clicks", partition: 0, records }], "aws:kafka");
    await makeProcessor({ pipeline, env: local, write })(event, context);
    const sink = makeSink({ pipeline, env: local, write });
    const queries = makeQuery({ env: local, write });
    const sql =
      "SELECT (SELECT count(*) FROM bronze) AS n, sum(views)::INTEGER > 50 AS x FROM pages";
    for (const format of ["json", "parquet"]) {
      await sink({ flush: true }, context);
      const answer = await queries({ sql, format }, context);
      expect(answer.statusCode).toBe(200);
      if (format === "json") expect(JSON.parse(answer.body)).toEqual([{ n: 100, x: true }]);
    }
    await Promise.all([sink.close(), queries.close()]);
  });

  test("a pipeline without results says so", async () => {
    const other = makeQuery({ env: { ...env, MILLPOND_PIPELINE: "nothing" }, write });
    const answer = await other({ sql: "SELECT 1" }, context);
    expect(answer.statusCode).toBe(404);
    expect(errorOf(answer)).toMatch(/nothing\.duckdb does not exist/);
  });
});

function errorOf({ body }: QueryResponse): string {
  return JSON.parse(body).error.message;
}
