/** Windows: how events are cut by event time. */

import type { WindowNode } from "./definition.js";
import { at, callerPlace, DefinitionError } from "./definition-error.js";
import { checkOptions } from "./options.js";

const PANES_MAX = 1_440;

/** Windows of `sizeMs`, one after the other. */
export const tumbling = (sizeMs: number, options: { readonly offset?: number } = {}): WindowNode =>
  at({ file: callerPlace() }, () => {
    checkOptions("tumbling window", options, { offset: true });
    return sliding(sizeMs, { ...options, every: sizeMs });
  });

/** Windows of `sizeMs` that start `every` so often, so that they overlap. */
export function sliding(
  sizeMs: number,
  options: { readonly every: number; readonly offset?: number },
): WindowNode {
  return at({ file: callerPlace() }, () => {
    checkOptions("sliding window", options, { every: true, offset: true });
    const { every: everyMs, offset: offsetMs = 0 } = options;
    checkDuration("window size", sizeMs);
    checkDuration("window every", everyMs);
    if (!Number.isSafeInteger(offsetMs)) {
      throw new DefinitionError(`window offset is ${offsetMs}; give whole milliseconds`);
    }
    if (everyMs > sizeMs) {
      throw new DefinitionError(
        `sliding every ${everyMs} ms is more than its size of ${sizeMs} ms, so events between ` +
          "windows would be lost; use every <= size",
      );
    }
    const panes = sizeMs / greatestCommonDivisor(sizeMs, everyMs);
    if (panes > PANES_MAX) {
      throw new DefinitionError(
        `a window of ${sizeMs} ms every ${everyMs} ms has ${panes} panes, more than ` +
          `${PANES_MAX}; choose an every that divides the size into fewer`,
      );
    }
    return { kind: "sliding", sizeMs, everyMs, offsetMs };
  });
}

/** Events of one key that are at most `gapMs` apart. */
export function session(gapMs: number): WindowNode {
  return at({ file: callerPlace() }, () => {
    checkDuration("session gap", gapMs);
    return { kind: "session", gapMs };
  });
}

/** Refuses what is no positive number of whole milliseconds. */
export function checkDuration(what: string, durationMs: unknown, least = 1): void {
  if (Number.isSafeInteger(durationMs) && Number(durationMs) >= least) return;
  throw new DefinitionError(
    `${what} is ${String(durationMs)}; give whole milliseconds of at least ${least}, ` +
      "like minutes(5)",
  );
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
