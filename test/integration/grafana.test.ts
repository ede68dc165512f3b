/**
 * The dashboard that Grafana is given: as the generator makes it, by the types that Grafana
 * publishes (`@grafana/schema`, of the version in docker-compose.yml), and laid out with care.
 */
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { METRICS } from "../../lib/observe/metrics.js";
import { monitoringFiles } from "../../scripts/dashboards.js";
import { testDir } from "../e2e/support/cli.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SCHEMA = path.join(ROOT, "node_modules", "@grafana", "schema", "dist", "types", "raw");
const read = (name: string) => fs.readFileSync(path.join(ROOT, name), "utf8");

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
  readonly options?: object;
  readonly fieldConfig?: {
    readonly defaults: { readonly unit?: string; readonly custom?: object };
  };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
  readonly panels?: readonly Panel[];
}

const DASHBOARD = "monitoring/grafana/dashboards/millpond.json";
const dashboard: { readonly uid: string; readonly panels: readonly Panel[] } = JSON.parse(
  read(DASHBOARD),
);
const all = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
const shown = all.filter(({ type }) => type !== "row");

test("what is committed is what `npm run dashboards` writes", () => {
  for (const [name, text] of monitoringFiles()) expect(read(name), name).toBe(text);
});

describe("Grafana's schema", () => {
  const dir = testDir("grafana");
  /** Enums by what they are in JSON. */
  const PLAIN = `type Plain<T> = T extends string ? \`\${T}\` : T extends number | boolean | null
      | undefined ? T : T extends readonly (infer E)[] ? Plain<E>[]
      : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;`;

  /** What the compiler says of the values, each by its type: literals must not have more. */
  async function errorsOf(values: readonly (readonly [type: string, value: unknown])[]) {
    const names = ["dashboard", "composable/timeseries/panelcfg", "composable/stat/panelcfg"];
    const imports = names.map((name) => {
      const file = path.join(SCHEMA, name, "x", "types.gen.js");
      return `import type * as ${name.split("/").at(1) ?? name} from ${JSON.stringify(file)};`;
    });
    const consts = values.map(([type, value], i) => {
      return `export const v${i}: Plain<${type}> = ${JSON.stringify(value, null, 1)};`;
    });
    const file = path.join(dir, "check.ts");
    fs.writeFileSync(file, [...imports, PLAIN, ...consts].join("\n"));
    const args = ["--noEmit", "--strict", "--skipLibCheck", "--ignoreConfig", "--types", ""];
    const modern = ["--module", "nodenext", "--target", "es2022"];
    const tsc = path.join(ROOT, "node_modules", ".bin", "tsc");
    try {
      await promisify(execFile)(tsc, [...args, ...modern, file], { cwd: ROOT });
      return "";
    } catch (error) {
      return error instanceof Error && "stdout" in error ? String(error.stdout) : String(error);
    }
  }

  test("has every field of the dashboard and its panels, with such a value", async () => {
    const panels = shown.flatMap(({ type, options, fieldConfig }) => [
      [`${type}.Options`, options] as const,
      ...(type === "timeseries"
        ? [["timeseries.FieldConfig", fieldConfig?.defaults.custom ?? {}] as const]
        : []),
    ]);
    expect(await errorsOf([["dashboard.Dashboard", dashboard], ...panels])).toBe("");
  });

  test.each([
    ["an unknown field", { ...dashboard, colour: "red" }, /colour/],
    ["a wrong value", { ...dashboard, graphTooltip: 7 }, /7/],
    ["a wrong type", { ...dashboard, panels: [{ ...shown[0], title: 5 }] }, /title|number/],
    ["a missing field", { ...dashboard, panels: [{ targets: [] }] }, /type/],
  ])("would find %s", async (_, value, message) => {
    expect(await errorsOf([["dashboard.Dashboard", value]])).toMatch(message);
  });
});

describe("the layout", () => {
  test("every panel says what it shows, in which unit, and has a name of its own", () => {
    expect(new Set(all.map(({ id }) => id)).size).toBe(all.length);
    expect(new Set(all.map(({ title }) => title)).size).toBe(all.length);
    for (const { title, description, fieldConfig, targets = [] } of shown) {
      expect(description, title).toMatch(/^[A-Z].*\.$/);
      expect(["short", "cps", "s", "bytes", "percentunit"]).toContain(fieldConfig?.defaults.unit);
      expect(targets.length).toBeGreaterThan(0);
      const legends = targets.map(({ legendFormat }) => legendFormat);
      expect(new Set(legends).size, title).toBe(legends.length);
    }
  });

  test("nothing overlaps, leaves the 24 columns, or leaves a hole", () => {
    for (const panels of [dashboard.panels, ...all.map((panel) => panel.panels ?? [])]) {
      const taken = new Set<string>();
      for (const { title, gridPos } of panels) {
        expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
            expect(taken.has(`${x} ${y}`), title).toBe(false);
            taken.add(`${x} ${y}`);
          }
        }
      }
      const rows = new Set([...taken].map((place) => place.split(" ")[1]));
      expect(taken.size).toBe(24 * rows.size);
    }
  });

  test("every metric of the local runner is in a query", () => {
    const queries = shown.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)).join("\n");
    const here = METRICS.filter(({ source }) => /processor|sink/.test(source));
    expect(here.filter(({ prometheus }) => !queries.includes(prometheus))).toEqual([]);
  });
});

test("Grafana is told where the dashboard and its data are", () => {
  const folder = "monitoring/grafana/provisioning";
  const { datasources } = parse(read(`${folder}/datasources/prometheus.yml`));
  const { providers } = parse(read(`${folder}/dashboards/millpond.yml`));
  const { services } = parse(read("docker-compose.yml"));
  const mounts: readonly string[] = services.grafana.volumes;
  expect(datasources[0]).toMatchObject({ type: "prometheus", url: "http://prometheus:9090" });
  const { scrape_interval } = parse(read("monitoring/prometheus/prometheus.yml")).global;
  expect(datasources[0].jsonData.timeInterval).toBe(scrape_interval);
  expect(mounts).toContain(`./${folder}:/etc/grafana/provisioning:ro`);
  expect(mounts).toContain(`./${path.dirname(DASHBOARD)}:${providers[0].options.path}:ro`);
  const home = services.grafana.environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH;
  expect(home).toBe(`${providers[0].options.path}/${path.basename(DASHBOARD)}`);
});
