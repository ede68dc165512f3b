/**
 * `npm run localstack`: the demo on an emulator. It starts docker-compose.localstack.yml, unless
 * MILLPOND_EMULATOR names an emulator that runs already.
 */
import { execFileSync } from "node:child_process";
import { errorText } from "../lib/cli/main.js";
import { runOnEmulator } from "../lib/dev/emulator.js";

const { MILLPOND_EMULATOR, MILLPOND_BOOTSTRAP, MILLPOND_EVENTS = "20000" } = process.env;
const profile = process.argv[2] ?? "localstack";

try {
  if (MILLPOND_EMULATOR === undefined) {
    const compose = ["compose", "-f", "docker-compose.localstack.yml", "--profile", profile];
    execFileSync("docker", [...compose, "up", "--detach", "--wait"], { stdio: "inherit" });
  }
  const rows = await runOnEmulator({
    endpoint: MILLPOND_EMULATOR ?? "http://localhost:4566",
    bootstrap: MILLPOND_BOOTSTRAP ?? "localhost:9092",
    functionBootstrap: MILLPOND_BOOTSTRAP ?? "kafka:19092",
    events: Number(MILLPOND_EVENTS),
    tell: (line) => process.stdout.write(`${line}\n`),
  });
  console.table(rows);
} catch (error) {
  process.stderr.write(errorText(error, false));
  process.exitCode = 1;
}
