/** A `millpond monitor` at work: looks until Ctrl-C, or once. */
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MillpondError } from "../errors.js";
import { ALERTS, type AlertRule } from "../observe/alerts.js";
import {
  type AlertAction,
  type AlertMessage,
  snsAction,
  webhookAction,
} from "../observe/monitor/actions.js";
import { endpointSource } from "../observe/monitor/endpoint-source.js";
import { Monitor, type MonitorState, type SampleSource } from "../observe/monitor/monitor.js";
import type { MonitorFlags } from "./monitor.js";

/** Of `--once`, while an alert rings. */
const EXIT_RINGS = 8;

export async function runMonitor(flags: MonitorFlags): Promise<void> {
  const json = flags.json === true;
  const tell = (kind: string, message: string) => {
    process.stdout.write(json ? `${JSON.stringify({ kind, message })}\n` : `${message}\n`);
  };
  const { source, shown } = sourceOf(flags);
  const monitor = new Monitor({
    source,
    rules: rulesOf(flags),
    actions: await actionsOf(flags, json),
    repeatMs: flags.repeat * 60_000,
    onTrouble: (error) => tell("trouble", error instanceof Error ? error.message : String(error)),
    ...stateFrom(flags.state, tell),
  });
  const look = async () => {
    const alerts = await monitor.look();
    if (flags.state !== undefined) keepState(flags.state, monitor.state);
    return alerts.some(({ status }) => status === "firing");
  };
  if (flags.once === true) {
    if (await look()) process.exitCode = EXIT_RINGS;
    return;
  }
  const ended = new AbortController();
  const end = () => ended.abort();
  process.once("SIGINT", end).once("SIGTERM", end);
  tell("watching", `watching ${shown}; Ctrl-C ends it`);
  let isSaid = false;
  while (!ended.signal.aborted) {
    await look();
    const { unjudged } = monitor;
    const isRead = monitor.state.looks.at(-1)?.samples != null;
    if (!isSaid && isRead && unjudged.length > 0) {
      tell("unjudged", `not judged, for want of their metrics: ${unjudged.join(", ")}`);
    }
    isSaid ||= isRead;
    await sleep(flags.interval * 1000, undefined, { signal: ended.signal }).catch(() => undefined);
  }
}

function sourceOf({ metrics, out = "" }: MonitorFlags) {
  if (metrics !== undefined) {
    const source = endpointSource(metrics);
    return { source, shown: source.shown };
  }
  const source: SampleSource = {
    async read(wanted) {
      const { outputSamples } = await import("../runtime/output-samples.js");
      return (await outputSamples(out)).filter(({ name }) => wanted.has(name));
    },
  };
  return { source, shown: out };
}

function rulesOf({ threshold, for: lasts }: MonitorFlags): AlertRule[] {
  return ALERTS.map((rule: AlertRule) => ({
    ...rule,
    threshold: threshold.get(rule.name) ?? rule.threshold,
    forS: lasts.get(rule.name) ?? rule.forS,
  }));
}

async function actionsOf({ webhook, sns }: MonitorFlags, json: boolean): Promise<AlertAction[]> {
  const address = webhook ?? process.env.MILLPOND_WEBHOOK;
  return [
    { name: "log", send: async (message) => log(message, json) },
    ...(address === undefined ? [] : [webhookAction(address)]),
    ...(sns === undefined ? [] : [await snsAction(sns)]),
  ];
}

function log(message: AlertMessage, json: boolean): void {
  const { text, since, value } = message;
  const line = json
    ? JSON.stringify({ kind: "alert", ...message })
    : `${new Date().toISOString()} ${text} (${round(value)}, since ${since})`;
  process.stdout.write(`${line}\n`);
}

const round = (value: number): number => Math.round(value * 1000) / 1000;

/** Without a state, or with one that can't be read, what is going on is told as new. */
function stateFrom(
  file: string | undefined,
  tell: (kind: string, message: string) => void,
): { readonly state?: MonitorState } {
  if (file === undefined || !fs.existsSync(file)) return {};
  const state = parsed(fs.readFileSync(file, "utf8"));
  if (state !== null) return { state };
  tell("trouble", `${file} holds no state of a monitor and is written anew`);
  return {};
}

function parsed(text: string): MonitorState | null {
  try {
    const found: unknown = JSON.parse(text);
    return isState(found) ? found : null;
  } catch {
    return null;
  }
}

function isState(found: unknown): found is MonitorState {
  if (typeof found !== "object" || found === null) return false;
  if (!("looks" in found && "alerts" in found && "version" in found)) return false;
  return found.version === VERSION && Array.isArray(found.looks) && Array.isArray(found.alerts);
}

/** Of the file; what another version wrote is not read. */
const VERSION = 1;

function keepState(file: string, state: MonitorState): void {
  const next = `${file}.${process.pid}.tmp`;
  try {
    fs.writeFileSync(next, JSON.stringify({ version: VERSION, ...state }));
    fs.renameSync(next, file);
  } catch (cause) {
    fs.rmSync(next, { force: true });
    throw new MillpondError(
      "STORAGE",
      `the monitor's state can't be kept in ${path.resolve(file)}: ${String(cause)}. Give ` +
        "--state a file in a directory that can be written to",
      { cause },
    );
  }
}
