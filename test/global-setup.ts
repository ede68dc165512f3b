/** Builds `dist` before the first test: end-to-end tests spawn `dist/bin/millpond.js`. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export default function build(): void {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const { status } = spawnSync("npm", ["run", "--silent", "build"], { cwd: root, stdio: "ignore" });
  // The compiler emits in spite of type errors; `npm run typecheck` is what gates on them.
  if (status !== 0) console.warn("The build has type errors: see `npm run typecheck`.");
}
