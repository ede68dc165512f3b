/** Loading a user's file: TypeScript and imports work, and what is wrong is said with its place. */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadPipeline } from "../../../lib/runtime/load-pipeline.js";

const dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-load-"));
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const at = path.join(dir, name);
  fs.writeFileSync(at, text);
  return at;
}

test("a file with types and a relative import is loaded, and knows where it is", async () => {
  file("name.ts", 'export const name: string = "shop";\nexport const where = import.meta.url;');
  const entry = file(
    "shop.ts",
    'import { name, where } from "./name.js";\n' +
      'export default { kind: "pipeline" as const, name, where, entry: import.meta.url };',
  );
  const loaded: unknown = await loadPipeline(entry, new Map());
  expect(loaded).toMatchObject({
    name: "shop",
    where: `file://${path.join(dir, "name.ts")}`,
    entry: `file://${entry}`,
  });
});

test("the library is this program's own", async () => {
  const entry = file(
    "library.ts",
    'import * as library from "millpond";\nexport default { kind: "pipeline", library };',
  );
  const own = await import("../../../lib/index.js");
  const loaded: unknown = await loadPipeline(entry, new Map());
  expect(new Set(Object.keys(Object(loaded).library))).toEqual(new Set(Object.keys(own)));
});

test("a syntax error names file, line and column", async () => {
  const entry = file("broken.ts", "const a = 1;\nexport default {{;\n");
  const loading = loadPipeline(entry, new Map());
  await expect(loading).rejects.toMatchObject({ code: "DEFINITION" });
  await expect(loading).rejects.toThrow(/broken\.ts:2:\d+/);
});

test("a file without a pipeline is told what to export", async () => {
  const entry = file("nothing.ts", "export const a = 1;");
  const loading = loadPipeline(entry, new Map());
  await expect(loading).rejects.toThrow(/no default export.*export default pipeline/);
});

test("a file that throws keeps its message", async () => {
  const entry = file("throws.ts", 'throw new TypeError("no such thing");');
  await expect(loadPipeline(entry, new Map())).rejects.toThrow(/TypeError: no such thing/);
});

test("a missing file is a usage error", async () => {
  const loading = loadPipeline(path.join(dir, "absent.ts"), new Map());
  await expect(loading).rejects.toMatchObject({ code: "USAGE" });
});
