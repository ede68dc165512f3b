/** Directories are made with their parents, and a place that takes none is said at once. */
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { makeDirectory } from "../../../lib/stores/make-directory.js";

const dir = mkdtempSync(join(tmpdir(), "millpond-make-directory-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("missing parents are made, and a directory that is there is left alone", () => {
  const deep = join(dir, "a", "b", "c");
  makeDirectory(deep);
  writeFileSync(join(deep, "kept"), "");
  makeDirectory(deep);
  makeDirectory("/");
  expect(existsSync(join(deep, "kept"))).toBe(true);
});

test("a file or a link to nothing in the way is refused by name", () => {
  const file = join(dir, "file");
  writeFileSync(file, "");
  const link = join(dir, "link");
  symlinkSync(join(dir, "nowhere"), link);
  for (const place of [file, join(file, "below"), join(file, "far", "below"), link]) {
    const blocker = place === link ? link : file;
    const expected = { code: "OUTPUT", message: expect.stringContaining(blocker) };
    expect(() => makeDirectory(place)).toThrow(expect.objectContaining(expected));
  }
});

// Where Node's own recursive mkdir never comes back.
test.runIf(existsSync("/proc/self"))("a file system that takes no directories is refused", () => {
  expect(() => makeDirectory("/proc/foo/bar")).toThrow(
    expect.objectContaining({
      code: "OUTPUT",
      message:
        "directory /proc/foo/bar cannot be made: /proc takes no directories; " +
        "give another one, where this user may write",
    }),
  );
});
