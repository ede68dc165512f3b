/** Tests run on the sources; `test/global-setup.ts` builds `dist` for those that spawn the CLI. */
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^millpond$/, replacement: source("./lib/index.ts") },
      { find: /^millpond\/testing$/, replacement: source("./lib/testing/index.ts") },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/global-setup.ts"],
    // Many tests spawn processes or run faults at every step, on two shared cores.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // DuckDB and worker threads: a process per test file keeps a crash from taking others along.
    pool: "forks",
    // Much of the time is spent waiting for servers: two files at once also on two cores.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
});
