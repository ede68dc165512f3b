/** The rules by promtool: their form, and for each alert series on which it must ring or not. */
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { ALERTS } from "../../lib/observe/alerts.js";
import { ruleFile } from "../../lib/observe/prometheus-rules.js";
import { testDir } from "../e2e/support/cli.js";
import { run } from "../servers/cache.js";
import { setUpPrometheus } from "../servers/prometheus.js";

const FOLDER = fileURLToPath(new URL("../../monitoring/prometheus", import.meta.url));
const missing = await setUpPrometheus();

describe.skipIf(missing !== null)(`promtool${missing === null ? "" : ` (${missing})`}`, () => {
  const dir = testDir("rules");

  test("finds configuration and rules right", async () => {
    const { stdout } = await run("promtool", ["check", "config", `${FOLDER}/prometheus.yml`]);
    expect(stdout).toContain(`${ALERTS.length} rules found`);
  });

  test("sees every alert ring and not ring where the examples say so", async () => {
    const { stdout } = await run("promtool", ["test", "rules", "rules.test.yml"], { cwd: FOLDER });
    expect(stdout).toContain("SUCCESS");
  });

  test.each(ALERTS.map(({ name }) => name))("misses %s when it is left out", async (name) => {
    fs.copyFileSync(path.join(FOLDER, "rules.test.yml"), path.join(dir, "rules.test.yml"));
    const others = ALERTS.filter((rule) => rule.name !== name);
    fs.writeFileSync(path.join(dir, "rules.yml"), stringify(ruleFile(others)));
    await expect(
      run("promtool", ["test", "rules", "rules.test.yml"], { cwd: dir }),
    ).rejects.toThrow("FAILED");
  });

  test("misses an alert that rings always", async () => {
    const always = ALERTS.map((rule) => ({ ...rule, threshold: -1 }));
    fs.writeFileSync(path.join(dir, "rules.yml"), stringify(ruleFile(always)));
    await expect(
      run("promtool", ["test", "rules", "rules.test.yml"], { cwd: dir }),
    ).rejects.toThrow("FAILED");
  });
});
