/** Tests run on the sources; `test/global-setup.ts` builds `dist` for those that spawn the CLI. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: {
    alias: { millpond: fileURLToPath(new URL("./lib/index.ts", import.meta.url)) },
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/global-setup.ts"],
    // Many tests spawn processes or run faults at every step, on two shared cores.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // DuckDB and worker threads: a process per test file keeps a crash from taking others along.
    pool: "forks",
  },
});
