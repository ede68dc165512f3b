/**
 * Which alerts ring, since when, and who was told: a pure step from one look to the next. Telling
 * is left to `actions.ts`; what was told comes back here, so that a message that got lost is sent
 * again.
 */
import type { AlertRule } from "../alerts.js";
import { type Look, measure } from "./conditions.js";

/** An alert of one pipeline (or sink, topic). */
export interface AlertInstance {
  readonly alert: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Since when its condition holds, epoch ms. */
  readonly sinceMs: number;
  readonly status: "pending" | "firing" | "resolved";
  /** By action: when it was last told that this rings. */
  readonly toldAtMs: Readonly<Record<string, number>>;
}

/** Something to tell by one action. */
export interface Notice {
  readonly action: string;
  readonly instance: AlertInstance;
}

/** Nobody waits longer than this for the news that something is over. */
const RESOLVED_MS_MAX = 60 * 60 * 1000;

/**
 * What holds now. An alert that nothing can be said of (the metrics were not read) stays as it was.
 *
 * @example
 * const next = nextAlerts(before, ALERTS, looks);
 */
export function nextAlerts(
  before: readonly AlertInstance[],
  rules: readonly AlertRule[],
  looks: readonly Look[],
): AlertInstance[] {
  const nowMs = looks.at(-1)!.atMs;
  return rules.flatMap((rule) => {
    const own = before.filter(({ alert }) => alert === rule.name);
    const measured = measure(rule.condition, looks);
    if (measured === null) return own;
    const held = measured.filter(({ value }) => value >= rule.threshold);
    const known = new Map(own.map((instance) => [JSON.stringify(instance.labels), instance]));
    const now = held.map(({ labels, value }): AlertInstance => {
      const last = known.get(JSON.stringify(labels));
      known.delete(JSON.stringify(labels));
      const goesOn = last !== undefined && last.status !== "resolved";
      const sinceMs = goesOn ? last.sinceMs : nowMs;
      const rings = nowMs - sinceMs >= rule.forS * 1000;
      const status = rings || last?.status === "firing" ? "firing" : "pending";
      // Who has not heard yet that it was over need not hear that it began again.
      return { alert: rule.name, labels, value, sinceMs, status, toldAtMs: last?.toldAtMs ?? {} };
    });
    return [...now, ...[...known.values()].flatMap((instance) => over(instance, nowMs))];
  });
}

/** Kept until all who heard that it rang have heard that it does not. */
function over(instance: AlertInstance, nowMs: number): AlertInstance[] {
  if (Object.keys(instance.toldAtMs).length === 0) return [];
  if (instance.status !== "resolved") return [{ ...instance, status: "resolved", sinceMs: nowMs }];
  return nowMs - instance.sinceMs > RESOLVED_MS_MAX ? [] : [instance];
}

/** What is due: alerts that began, that go on since `repeatMs`, and that are over. */
export function dueNotices(
  alerts: readonly AlertInstance[],
  actions: readonly string[],
  { nowMs, repeatMs }: { readonly nowMs: number; readonly repeatMs: number },
): Notice[] {
  return alerts.flatMap((instance) => {
    const { status, toldAtMs } = instance;
    const due = actions.filter((action) => {
      const told = toldAtMs[action];
      if (status === "resolved") return told !== undefined;
      return status === "firing" && (told === undefined || nowMs - told >= repeatMs);
    });
    return due.map((action) => ({ action, instance }));
  });
}

/** The same alerts, once the notice has arrived. */
export function afterTelling(
  alerts: readonly AlertInstance[],
  { action, instance }: Notice,
  nowMs: number,
): AlertInstance[] {
  return alerts.flatMap((one) => {
    const isIt =
      one.alert === instance.alert &&
      JSON.stringify(one.labels) === JSON.stringify(instance.labels);
    if (!isIt) return [one];
    const { [action]: _told, ...others } = one.toldAtMs;
    if (one.status !== "resolved") return [{ ...one, toldAtMs: { ...others, [action]: nowMs } }];
    return Object.keys(others).length === 0 ? [] : [{ ...one, toldAtMs: others }];
  });
}
