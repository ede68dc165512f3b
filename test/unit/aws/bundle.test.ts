/** What Lambda gets: small, quick to load, and DuckDB only where it is used. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { deflateRawSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundlePipeline, FUNCTION_NAMES, type PipelineCode } from "../../../lib/aws/bundle.js";
import { definitionHash } from "../../../lib/define/json.js";
import { loadPipeline } from "../../../lib/runtime/load-pipeline.js";

const MEGABYTE = 1024 * 1024;
/** Two headers of a zip archive's entry, without its names. */
const ENTRY_BYTES = 76;
const FILE = "test/unit/aws/mapped-pipeline.ts";

function filesIn(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(dir, path.join(entry.parentPath, entry.name)));
}

function zippedBytes(dir: string): number {
  return filesIn(dir).reduce((sum, name) => {
    const bytes = readFileSync(path.join(dir, name));
    return sum + deflateRawSync(bytes).length + ENTRY_BYTES + 2 * name.length;
  }, 0);
}

/** Null when DuckDB's extension, which bundles hold, can be fetched; otherwise why it can't. */
function missingPip(): string | null {
  try {
    execFileSync("python3", ["-m", "pip", "--version"], { stdio: "ignore" });
    return null;
  } catch (error) {
    return `python3 with pip is not to be had: ${String(error)}`;
  }
}

const missing = missingPip();
const title = `bundles${missing === null ? "" : ` (skipped: ${missing})`}`;

describe.skipIf(missing !== null)(title, () => {
  const outDir = mkdtempSync(path.join(tmpdir(), "millpond-bundles-"));
  let code: PipelineCode;
  beforeAll(async () => {
    const architecture = process.arch === "arm64" ? "arm64" : "x64";
    code = await bundlePipeline(FILE, { outDir, architecture });
  });
  afterAll(() => rmSync(outDir, { recursive: true, force: true }));

  test("the processor is at most 1 MB zipped", () => {
    expect(zippedBytes(code.directories.processor)).toBeLessThanOrEqual(MEGABYTE);
  });

  test("DuckDB is in sink and query alone", () => {
    const withDuckdb = FUNCTION_NAMES.filter((name) =>
      filesIn(code.directories[name]).some((file) => /\.node$|duckdb_extension$/.test(file)),
    );
    expect(withDuckdb).toEqual(["sink", "query"]);
    for (const name of FUNCTION_NAMES.filter((other) => !withDuckdb.includes(other))) {
      const text = filesIn(code.directories[name])
        .filter((file) => file.endsWith(".mjs"))
        .map((file) => readFileSync(path.join(code.directories[name], file), "utf8"))
        .join("\n");
      expect({ name, found: text.includes("@duckdb/node-bindings") }).toEqual({
        name,
        found: false,
      });
    }
  });

  /** Files that hold Snowflake's driver, or ours of it. */
  const driverIn = ({ directories }: PipelineCode): string[] =>
    filesIn(directories.sink)
      .filter((file) => file.endsWith(".mjs"))
      .map((file) => path.join(directories.sink, file))
      .filter((file) => readFileSync(file, "utf8").includes("snowflakecomputing.com"));

  test("Snowflake's driver is bundled for a pipeline that has that sink, and works", async () => {
    expect(driverIn(code)).toEqual([]);
    const withSink = await bundlePipeline("test/unit/aws/snowflake-pipeline.ts", {
      outDir,
      architecture: code.architecture,
    });
    const drivers = driverIn(withSink).map((file) => pathToFileURL(file).href);
    const script = `const all = ${JSON.stringify(drivers)};
      const modules = await Promise.all(all.map((url) => import(url)));
      const driver = modules.find((loaded) => loaded.default?.createConnection).default;
      driver.configure({ logLevel: "OFF" });
      console.log(typeof driver.createConnection({ account: "a", username: "u", password: "p" }));`;
    const options = { cwd: tmpdir(), encoding: "utf8", env: { PATH: process.env.PATH } } as const;
    const args = ["--input-type=module", "--no-warnings", "-e", script];
    expect(execFileSync(process.execPath, args, options).trim()).toBe("object");
  });

  test("nothing of a download is left beside DuckDB's extension", () => {
    const found = filesIn(path.join(code.directories.sink, "extensions"));
    expect(found.map((name) => path.basename(name))).toEqual(["httpfs.duckdb_extension"]);
  });

  test("every handler loads alone, outside the repository", () => {
    for (const name of FUNCTION_NAMES) {
      const url = pathToFileURL(path.join(code.directories[name], "index.mjs")).href;
      const script = `console.log(typeof (await import(${JSON.stringify(url)})).handler)`;
      const options = { cwd: tmpdir(), encoding: "utf8", env: { PATH: process.env.PATH } } as const;
      const said = execFileSync(process.execPath, ["--input-type=module", "-e", script], options);
      expect({ name, said: said.trim() }).toEqual({ name, said: "function" });
    }
  });

  test("the pipeline's definition is the one a laptop has, user functions included", async () => {
    const here = definitionHash((await loadPipeline(FILE, new Map())).definition);
    for (const name of ["processor", "sink", "ingest", "producer"] as const) {
      const url = pathToFileURL(path.join(code.directories[name], "pipeline.mjs")).href;
      const bundled: { default: { definition: never } } = await import(url);
      expect({ name, hash: definitionHash(bundled.default.definition) }).toEqual({
        name,
        hash: here,
      });
    }
  });

  test("reference tables are beside the code", () => {
    expect(existsSync(path.join(code.directories.processor, "references"))).toBe(true);
  });

  test("no path of this machine is in a bundle", () => {
    const root = process.cwd();
    for (const name of FUNCTION_NAMES) {
      for (const file of filesIn(code.directories[name]).filter((one) => one.endsWith(".mjs"))) {
        const text = readFileSync(path.join(code.directories[name], file), "utf8");
        expect({ name, file, found: text.includes(root) }).toEqual({ name, file, found: false });
      }
    }
  });
});
