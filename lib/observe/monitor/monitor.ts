/** Looks at metrics, judges the alerts, and tells of them; what a look is judged by is pure. */
import type { AlertRule } from "../alerts.js";
import { type AlertAction, alertMessage } from "./actions.js";
import { type AlertInstance, afterTelling, dueNotices, nextAlerts } from "./alert-state.js";
import { type Look, metricsOf } from "./conditions.js";
import type { Sample } from "./samples.js";

/** Where samples come from: an endpoint, or an output directory. */
export interface SampleSource {
  /** Throws `MillpondError` when they can't be read. */
  read(wanted: ReadonlySet<string>): Promise<readonly Sample[]>;
}

/** All that a monitor remembers; JSON. */
export interface MonitorState {
  /** Oldest first, as far back as a condition looks. */
  readonly looks: readonly Look[];
  readonly alerts: readonly AlertInstance[];
}

export interface MonitorOptions {
  readonly source: SampleSource;
  readonly rules: readonly AlertRule[];
  readonly actions: readonly AlertAction[];
  readonly repeatMs: number;
  /** What could not be read or told; the next look tries again. */
  readonly onTrouble: (error: unknown) => void;
  readonly state?: MonitorState;
}

/** About so many are kept, however often one looks: of those that come closer, not all. */
const LOOKS_MAX = 1_000;

/**
 * @example
 * const monitor = new Monitor({ source, rules: ALERTS, actions, repeatMs: 3_600_000, onTrouble });
 * const alerts = await monitor.look();
 */
export class Monitor {
  readonly #options: MonitorOptions;
  readonly #wanted: ReadonlySet<string>;
  readonly #keepMs: number;
  #state: MonitorState;

  constructor(options: MonitorOptions) {
    this.#options = options;
    const conditions = options.rules.map(({ condition }) => condition);
    this.#wanted = new Set(conditions.flatMap(metricsOf));
    const windows = conditions.map((one) => ("withinS" in one ? one.withinS : 0));
    // One more look is kept: from it the oldest growth is counted.
    this.#keepMs = Math.max(0, ...windows) * 1000;
    this.#state = options.state ?? { looks: [], alerts: [] };
  }

  get state(): MonitorState {
    return this.#state;
  }

  /** Rules whose metrics the last look had none of: they say nothing here. */
  get unjudged(): readonly string[] {
    const samples = this.#state.looks.at(-1)?.samples;
    if (!samples) return [];
    const names = new Set(samples.map(({ name }) => name));
    const lacks = ({ condition }: AlertRule) =>
      metricsOf(condition).some((metric) => !names.has(metric));
    return this.#options.rules.filter(lacks).map(({ name }) => name);
  }

  /** One look, and what it leads to; the alerts that hold. */
  async look(): Promise<readonly AlertInstance[]> {
    const look = { atMs: Date.now(), samples: await this.#read() };
    const looks = this.#kept([...this.#state.looks, look]);
    const alerts = nextAlerts(this.#state.alerts, this.#options.rules, looks);
    this.#state = { looks, alerts };
    await this.#tell();
    return this.#state.alerts;
  }

  async #read(): Promise<readonly Sample[] | null> {
    try {
      return await this.#options.source.read(this.#wanted);
    } catch (error) {
      this.#options.onTrouble(error);
      return null;
    }
  }

  #kept(looks: readonly Look[]): readonly Look[] {
    const sinceMs = looks.at(-1)!.atMs - this.#keepMs;
    const before = looks.findLastIndex(({ atMs }) => atMs <= sinceMs);
    const kept = looks.slice(Math.max(0, before));
    const [earlier, previous] = kept.slice(-3);
    const isClose = kept.length >= 3 && previous!.atMs - earlier!.atMs < this.#keepMs / LOOKS_MAX;
    return isClose ? kept.toSpliced(-2, 1) : kept;
  }

  async #tell(): Promise<void> {
    const { actions, rules, repeatMs, onTrouble } = this.#options;
    const nowMs = Date.now();
    const names = actions.map(({ name }) => name);
    for (const notice of dueNotices(this.#state.alerts, names, { nowMs, repeatMs })) {
      const rule = rules.find(({ name }) => name === notice.instance.alert)!;
      const action = actions.find(({ name }) => name === notice.action)!;
      try {
        await action.send(alertMessage(rule, notice.instance));
        const alerts = afterTelling(this.#state.alerts, notice, nowMs);
        this.#state = { ...this.#state, alerts };
      } catch (error) {
        onTrouble(error);
      }
    }
  }
}
