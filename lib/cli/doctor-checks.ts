/**
 * What can be wrong with a machine and its servers before a pipeline runs, one answer a check. No
 * answer quotes a password or key.
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import type { Pipeline, SinkNode } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import type { PostgresConnection } from "../sinks/postgres-connection.js";
import type { KafkaClient } from "../sources/kafka/client.js";
import { codeOf } from "../stores/fs-errors.js";

export interface CheckResult {
  readonly check: string;
  readonly status: "ok" | "warn" | "fail";
  /** What was found. */
  readonly found: string;
  /** What to do, unless all is well. */
  readonly advice?: string;
}

export interface CheckSubject {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where results would go. */
  readonly out: string;
  readonly pipeline: Pipeline | null;
}

const NODE_MIN = [20, 19] as const;
const FREE_BYTES_MIN = 1024 ** 3;
const SKEW_MS_MAX = 2_000;
const CHECK_MS_MAX = 20_000;

/** Each check, or several of one subject; one that fails to answer is a failure. */
export async function runChecks(subject: CheckSubject): Promise<readonly CheckResult[]> {
  const checks: readonly [string, (subject: CheckSubject) => Promise<readonly CheckResult[]>][] = [
    ["node", checkNode],
    ["duckdb", checkDuckdb],
    ["disk", checkDisk],
    ["kafka", checkKafka],
    ["postgres", checkPostgres],
    ["aws", checkAws],
    ["snowflake", checkSnowflake],
  ];
  const results = await Promise.all(
    checks.map(([name, check]) => answered(name, () => check(subject))),
  );
  return results.flat();
}

async function answered(
  check: string,
  work: () => Promise<readonly CheckResult[]>,
): Promise<readonly CheckResult[]> {
  let timer: NodeJS.Timeout | undefined;
  const tooLong = new Promise<never>((_, reject) => {
    const message = `no answer in ${CHECK_MS_MAX / 1000} s: is it up, and reachable from here?`;
    timer = setTimeout(() => reject(new MillpondError("STORAGE", message)), CHECK_MS_MAX);
  });
  try {
    return await Promise.race([work(), tooLong]);
  } catch (error) {
    return [{ check, status: "fail", found: error instanceof Error ? error.message : `${error}` }];
  } finally {
    clearTimeout(timer);
  }
}

async function checkNode(): Promise<readonly CheckResult[]> {
  const { node } = process.versions;
  const [major = 0, minor = 0] = node.split(".").map(Number);
  const isOld = major < NODE_MIN[0] || (major === NODE_MIN[0] && minor < NODE_MIN[1]);
  const found = `Node ${node} on ${process.platform} ${process.arch}`;
  if (!isOld) return [{ check: "node", status: "ok", found }];
  const advice = `install Node ${NODE_MIN.join(".")} or later`;
  return [{ check: "node", status: "fail", found, advice }];
}

async function checkDuckdb(): Promise<readonly CheckResult[]> {
  try {
    const { DuckDBInstance } = await import("../duckdb-api.js");
    const instance = await DuckDBInstance.create(":memory:");
    const connection = await instance.connect();
    const [row] = await (await connection.runAndReadAll("SELECT version()")).getRows();
    connection.closeSync();
    instance.closeSync();
    return [{ check: "duckdb", status: "ok", found: `DuckDB ${String(row?.[0])}` }];
  } catch (error) {
    const found = `DuckDB does not load: ${error instanceof Error ? error.message : error}`;
    const advice = "run npm ci again, with optional packages (the binary is one)";
    return [{ check: "duckdb", status: "fail", found, advice }];
  }
}

async function checkDisk({ out }: CheckSubject): Promise<readonly CheckResult[]> {
  let dir = path.resolve(out);
  while (!fs.existsSync(dir)) dir = path.dirname(dir);
  const probe = path.join(dir, `.millpond-doctor-${randomUUID()}`);
  try {
    fs.writeFileSync(probe, "");
    fs.rmSync(probe);
  } catch (error) {
    const advice = "give another --out, or make it writable";
    return [{ check: "disk", status: "fail", found: `${dir}: ${codeOf(error)}`, advice }];
  }
  const { bavail, bsize } = fs.statfsSync(dir);
  const free = bavail * bsize;
  const found = `${dir} is writable, ${(free / 1024 ** 3).toFixed(1)} GiB free`;
  if (free >= FREE_BYTES_MIN) return [{ check: "disk", status: "ok", found }];
  return [{ check: "disk", status: "warn", found, advice: "make room: results need some" }];
}

const sinksOf = <K extends SinkNode["kind"]>({ pipeline }: CheckSubject, kind: K) =>
  (pipeline?.definition.sinks ?? []).filter(
    (sink): sink is Extract<SinkNode, { kind: K }> => sink.kind === kind,
  );

const anySet = ({ env }: CheckSubject, names: readonly string[]) =>
  names.some((name) => (env[name] ?? "") !== "");

async function checkKafka(subject: CheckSubject): Promise<readonly CheckResult[]> {
  const isNamed = anySet(subject, ["MILLPOND_BOOTSTRAP", "MILLPOND_CLUSTER_ARN"]);
  if (!isNamed && sinksOf(subject, "kafka").length === 0) {
    if (subject.pipeline === null) return [];
    const found = "no brokers are named: millpond dev would try localhost:9092";
    const advice = "set MILLPOND_BOOTSTRAP to check them; files need none";
    return [{ check: "kafka", status: "warn", found, advice }];
  }
  const { connectKafka } = await import("../sources/kafka/kafkajs-client.js");
  const { kafkaSettings } = await import("../sources/kafka/settings.js");
  const settings = await kafkaSettings(subject.env);
  const client = await connectKafka(settings);
  try {
    const brokers = await client.brokers();
    const place = settings.brokers.join(",");
    const login = settings.auth.kind;
    const found = `${place} answers, ${brokers.length} in the cluster, login ${login}`;
    return [{ check: "kafka", status: "ok", found }, ...(await topics(subject, client))];
  } finally {
    await client.close();
  }
}

async function topics(
  { env, pipeline }: CheckSubject,
  client: KafkaClient,
): Promise<readonly CheckResult[]> {
  if (pipeline === null) return [];
  const { streamsByTopic } = await import("../handlers/pipeline-runtime.js");
  const results: CheckResult[] = [];
  for (const topic of streamsByTopic(pipeline.definition, env).keys()) {
    const partitions = await client.offsets(topic);
    if (partitions === null) {
      const advice = "create it, or let millpond dev do it";
      results.push({ check: "topic", status: "warn", found: `${topic} is not there`, advice });
      continue;
    }
    const records = partitions.reduce((sum, { low, high }) => sum + high - low, 0);
    const found = `${topic} has ${partitions.length} partitions, about ${records} records`;
    results.push({ check: "topic", status: "ok", found });
  }
  return results;
}

async function checkPostgres(subject: CheckSubject): Promise<readonly CheckResult[]> {
  const sinks = sinksOf(subject, "postgres");
  const variables = ["DATABASE_URL", "PGHOST", "MILLPOND_POSTGRES_SECRET_ARN"];
  if (sinks.length === 0 && !anySet(subject, variables)) return [];
  const postgres = await import("../sinks/postgres-connection.js");
  const connection = await postgres.PostgresConnection.open(subject.env, "millpond doctor");
  try {
    const [server] = await connection.query(
      `SELECT current_setting('server_version') AS version, current_user AS name,
        current_setting('server_version_num')::int AS number,
        extract(epoch FROM clock_timestamp()) * 1000 AS now_ms,
        has_database_privilege(current_database(), 'TEMP') AS may_stage`,
    );
    const found = `PostgreSQL ${server?.version} at ${connection.place}, as ${server?.name}`;
    const results: CheckResult[] = [
      Number(server?.number) >= 150_000
        ? { check: "postgres", status: "ok", found }
        : { check: "postgres", status: "fail", found, advice: "upgrade it to 15 or later" },
      clock("PostgreSQL", Number(server?.now_ms)),
    ];
    if (server?.may_stage !== true) {
      const advice = `GRANT TEMP ON DATABASE … TO "${server?.name}"`;
      results.push({ check: "postgres", status: "fail", found: "no temporary tables", advice });
    }
    for (const { schema } of sinks) results.push(await schemaCheck(connection, schema));
    return results;
  } finally {
    await connection.close();
  }
}

async function schemaCheck(connection: PostgresConnection, schema: string): Promise<CheckResult> {
  const [row] = await connection.query(
    `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS is_there,
      coalesce((SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE')
          FROM pg_namespace WHERE nspname = $1),
        has_database_privilege(current_database(), 'CREATE')) AS may_create`,
    [schema],
  );
  const is = row?.is_there === true ? "is there" : "will be made";
  if (row?.may_create === true) {
    return { check: "schema", status: "ok", found: `${schema} ${is}, tables can be made in it` };
  }
  const found = `${schema} ${is}, but the user may not make ${row?.is_there ? "tables" : "it"}`;
  const what = row?.is_there === true ? `CREATE ON SCHEMA "${schema}"` : "CREATE ON DATABASE …";
  return { check: "schema", status: "fail", found, advice: `GRANT ${what} TO the user` };
}

function clock(server: string, nowMs: number): CheckResult {
  const skewMs = Math.round(nowMs - Date.now());
  const found = `this machine's clock and ${server}'s differ by ${Math.abs(skewMs)} ms`;
  if (Math.abs(skewMs) <= SKEW_MS_MAX) return { check: "clock", status: "ok", found };
  return { check: "clock", status: "warn", found, advice: "set both by NTP" };
}

async function checkAws(subject: CheckSubject): Promise<readonly CheckResult[]> {
  const variables = ["MILLPOND_STATE_TABLE", "MILLPOND_BUCKET"];
  if (subject.env.MILLPOND_STORE !== "aws" && !anySet(subject, variables)) return [];
  const { openStores } = await import("../stores/open-stores.js");
  const stores = await openStores({ ...subject.env, MILLPOND_STORE: "aws" });
  await stores.checkpoints.read("millpond-doctor/partitions/none/0");
  await stores.objects.list("millpond-doctor/");
  const { MILLPOND_STATE_TABLE, MILLPOND_BUCKET } = subject.env;
  const found = `table ${MILLPOND_STATE_TABLE} and bucket ${MILLPOND_BUCKET} can be read`;
  return [{ check: "aws", status: "ok", found }];
}

async function checkSnowflake(subject: CheckSubject): Promise<readonly CheckResult[]> {
  const sinks = sinksOf(subject, "snowflake");
  if (sinks.length === 0 && !anySet(subject, ["SNOWFLAKE_ACCOUNT"])) return [];
  const { snowflakeSettings } = await import("../sinks/snowflake-client.js");
  const { account, user, database, schema } = await snowflakeSettings(subject.env);
  const found = `variables name ${database}.${schema} of ${account}, as ${user}, and hold a key`;
  return [{ check: "snowflake", status: "ok", found }];
}
