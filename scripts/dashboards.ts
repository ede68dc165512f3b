/** Writes what Prometheus and Grafana are told, from the product's own metrics and alerts. */
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { ALERTS } from "../lib/observe/alerts.js";
import { ruleFile } from "../lib/observe/prometheus-rules.js";
import { grafanaDashboard } from "../monitoring/dashboard.js";

const HEAD = "# Made by `npm run dashboards` from lib/observe/alerts.ts.\n";

/** Content by path in the repository. */
export function monitoringFiles(): ReadonlyMap<string, string> {
  const rules = stringify(ruleFile(ALERTS), { lineWidth: 100 });
  const dashboard = JSON.stringify(grafanaDashboard(), null, 2);
  return new Map([
    ["monitoring/prometheus/rules.yml", HEAD + rules],
    ["monitoring/grafana/dashboards/millpond.json", `${dashboard}\n`],
  ]);
}

const [, started] = process.argv;
if (started !== undefined && fileURLToPath(import.meta.url) === fs.realpathSync(started)) {
  for (const [name, text] of monitoringFiles()) fs.writeFileSync(name, text);
}
