/**
 * Style that a machine can check, over every file that git would keep; formatting and types are
 * checked elsewhere.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const LINE_COLUMNS_MAX = 100;
const FUNCTION_LINES_MAX = 70;

const read = (name: string) => fs.readFileSync(`${ROOT}/${name}`, "utf8");

// A walk, because a machine that runs the tests may have no git.
const ignored = new Set([".git", ...read(".gitignore").split(/\/?\n/)]);
const files = filesUnder(".");

function filesUnder(dir: string): string[] {
  const entries = fs.readdirSync(path.join(ROOT, dir), { withFileTypes: true });
  return entries.flatMap((entry) => {
    if (ignored.has(entry.name)) return [];
    const name = path.posix.join(dir, entry.name);
    return entry.isDirectory() ? filesUnder(name) : [name];
  });
}

// This file names what it looks for.
const others = files.filter((name) => name !== "test/tidy.test.ts");
const sources = others.filter((name) => /\.[cm]?ts$/.test(name));
const texts = others.filter((name) => /(\.(ts|md|json|ya?ml)|run|\.npmrc)$/.test(name));

/** `file:line` of every line that the rule finds. */
function linesWith(names: readonly string[], isWrong: (line: string) => boolean): string[] {
  return names.flatMap((name) =>
    read(name)
      .split("\n")
      .flatMap((line, index) => (isWrong(line) ? [`${name}:${index + 1}`] : [])),
  );
}

/**
 * Functions declared at the margin and methods one level in, by the formatter's indentation: from
 * the line that opens to the first line that closes at the same depth.
 */
function longFunctions(name: string): string[] {
  const lines = read(name).split("\n");
  return lines.flatMap((line, start) => {
    const opening = /^( {0,2})(?:export |default |static |async |private |override )*(.*)/.exec(
      line,
    );
    const isFunction =
      /^(export )?(default )?(async )?function\b/.test(line) ||
      /^ {2}(?!if|for|while|switch|return|const|let)[\w#* ]+\(.*\{$/.test(line);
    if (opening === null || !isFunction) return [];
    const end = lines.findIndex((text, at) => at > start && text.startsWith(`${opening[1]}}`));
    return end - start + 1 > FUNCTION_LINES_MAX ? [`${name}:${start + 1}`] : [];
  });
}

describe("sources", () => {
  test("lines have at most 100 columns", () => {
    const isLong = (line: string) => line.length > LINE_COLUMNS_MAX;
    expect(linesWith(sources, isLong)).toEqual([]);
  });

  test("functions have at most 70 lines, but for suites of tests", () => {
    expect(sources.filter((name) => !name.startsWith("test/")).flatMap(longFunctions)).toEqual([]);
  });

  test("a file opens with a comment on what it is for", () => {
    const opens = (name: string) => /^(#!.*\n)?\/(\*\*|\/)/.test(read(name));
    expect(sources.filter((name) => !opens(name))).toEqual([]);
  });

  test("errors of the product are MillpondErrors", () => {
    const shipped = sources.filter((name) => /^(lib|bin)\//.test(name));
    expect(linesWith(shipped, (line) => line.includes("throw new Error("))).toEqual([]);
  });

  test("directories are made by makeDirectory: Node's recursive mkdir may never end", () => {
    const shipped = sources.filter((name) => name.startsWith("lib/"));
    const wrong = /\bmkdir(Sync)?\(.*recursive/;
    expect(linesWith(shipped, (line) => wrong.test(line))).toEqual([]);
  });

  test("nothing is left to do, or skipped", () => {
    // The linter looks for `any`.
    const wrong = /\b(TODO|FIXME|XXX)\b|\b(test|it|describe)\.(skip|only)\(/;
    expect(linesWith(sources, (line) => wrong.test(line))).toEqual([]);
  });
});

test("no file names a machine's paths or a package registry's host", () => {
  const wrong = /\/work\/(main|shared)|\/home\/\w|\/root\/|"resolved": "http|_authToken/;
  expect(linesWith(texts, (line) => wrong.test(line))).toEqual([]);
});
