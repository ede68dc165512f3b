/** The edits of `npm run simulate:mutants` fit the sources as they are now. */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { MUTATIONS } from "./mutations.js";

test.for(MUTATIONS)("$name", async ({ edits }) => {
  for (const { file, find } of edits) {
    const text = await readFile(new URL(`../../${file}`, import.meta.url), "utf8");
    expect(text.split(find), file).toHaveLength(2);
  }
});
