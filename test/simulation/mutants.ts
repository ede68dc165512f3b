/**
 * `npm run simulate:mutants`: breaks the protocol in one way after the other, and sees whether the
 * simulator finds it within a minute. Sources stay as they are: the edits go into bundles.
 */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import type { Plugin } from "esbuild";
import { makeDirectory } from "../../lib/stores/make-directory.js";
import { bundleChild } from "../integration/support/bundle-child.js";
import { MUTATIONS, type Mutation } from "./mutations.js";

const MINUTES_MAX = 1;
const CACHE = ".cache";

/** Applies the edits to what is bundled; each has to fit exactly once. */
function editing({ name, edits }: Mutation, unused: Set<string>): Plugin {
  return {
    name: "mutation",
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        const own = edits.filter(({ file }) => file === relative(process.cwd(), path));
        if (own.length === 0) return undefined;
        let contents = await readFile(path, "utf8");
        for (const { file, find, replace } of own) {
          const times = contents.split(find).length - 1;
          if (times !== 1) {
            return { errors: [{ text: `"${name}" fits ${times} times, not once, in ${file}` }] };
          }
          contents = contents.replace(find, () => replace);
          unused.delete(find);
        }
        return { contents, loader: "ts" };
      });
    },
  };
}

async function bundle(mutation: Mutation, outfile: string): Promise<void> {
  const unused = new Set(mutation.edits.map(({ find }) => find));
  await bundleChild("test/simulation/simulate.ts", outfile, [editing(mutation, unused)]);
  if (unused.size > 0) throw new Error(`"${mutation.name}" edits what no simulation loads`);
}

interface Hunt {
  readonly isFound: boolean;
  readonly seconds: number;
  /** The first line of what was found. */
  readonly how: string;
}

async function hunt(file: string): Promise<Hunt> {
  const started = performance.now();
  const minutes = String(MINUTES_MAX);
  const args = [file, "--violations", "1", "--minutes", minutes, "--of-each-case", "8"];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (text) => {
    output += String(text);
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  const how = /^seed \d+: .*$/m.exec(output)?.[0] ?? `exit code ${code}`;
  return { isFound: code === 1, seconds: (performance.now() - started) / 1000, how };
}

/** Names of mutations to try may follow the command; all by default. */
async function main(): Promise<number> {
  const wanted = process.argv.slice(2);
  const chosen = MUTATIONS.filter(
    ({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)),
  );
  await makeDirectory(CACHE);
  const dir = await mkdtemp(join(CACHE, "mutants-"));
  let missed = 0;
  try {
    for (const [index, mutation] of chosen.entries()) {
      const file = join(dir, `mutant-${index}.mjs`);
      await bundle(mutation, file);
      const { isFound, seconds, how } = await hunt(file);
      if (!isFound) missed += 1;
      console.log(
        `${isFound ? "found " : "MISSED"} ${seconds.toFixed(0).padStart(3)} s  ${mutation.name}\n` +
          `              ${how.slice(0, 150)}`,
      );
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  console.log(`${chosen.length - missed} of ${chosen.length} found`);
  return missed === 0 ? 0 : 1;
}

process.exitCode = await main();
