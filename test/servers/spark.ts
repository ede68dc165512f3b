/**
 * Spark with Delta Lake for tests, as another reader of lakes: pyspark from PyPI and Delta's jars
 * from Maven Central in a cache, one JVM of at most 1 GB a call. Needs `python3`, `java` and `mvn`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { copyJars, installed, missingOf, pythonWith, run } from "./cache.js";

const SPARK = "4.0.1";
const DELTA = "4.0.0";
const HERE = fileURLToPath(new URL("spark", import.meta.url));
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

/** Null when `spark` can be used; otherwise why this machine can't, and what to install. */
export async function setUpSpark(): Promise<string | null> {
  const missing = await missingOf(["java", "mvn", "python3"]);
  if (missing !== null) return missing;
  try {
    await home();
    return null;
  } catch (error) {
    return `Spark ${SPARK} with Delta ${DELTA} is not to be had: ${String(error)}`;
  }
}

async function home(): Promise<{ python: string; jars: string }> {
  const python = await pythonWith(`pyspark-${SPARK}`, [`pyspark==${SPARK}`]);
  const pom = path.join(HERE, "pom.xml");
  const jars = await installed(`delta-spark-${DELTA}`, (dir) => copyJars(pom, dir));
  return { python, jars };
}

/**
 * Runs a Python program that has `spark`, `args` and `answer` of `session`; returns what it gave to
 * `answer`. A session takes seconds to start: ask much of one.
 */
export async function spark(program: string, ...args: readonly string[]): Promise<unknown> {
  const { python, jars } = await home();
  const work = await mkdtemp(path.join(tmpdir(), "millpond-spark-"));
  try {
    const { stdout } = await run(python, [program, work, jars, ...args], {
      maxBuffer: ANSWER_BYTES_MAX,
      env: { ...process.env, SPARK_LOCAL_IP: "127.0.0.1", PYTHONPATH: HERE },
      cwd: work,
    });
    const line = stdout.split("\n").findLast((text) => text.startsWith("answer: "));
    return JSON.parse(line?.slice("answer: ".length) ?? "null");
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
