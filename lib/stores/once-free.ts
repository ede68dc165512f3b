/** Waiting for a DuckDB file that another process holds: readers and writers do so alike. */
import { setTimeout as sleep } from "node:timers/promises";
import { MillpondError } from "../errors.js";

/** A sink at work, or a query, has the file for moments only; who has it for longer is told of. */
export const HELD_MS_MAX = 5_000;
const LOOK_AGAIN_MS = 20;

/**
 * What `open` opens, tried again as long as somebody else holds it, for `waitMs` at most.
 *
 * @throws MillpondError CONFLICT when it is held for longer
 * @example const database = await onceFree(HELD_MS_MAX, () => Database.open(options));
 */
export async function onceFree<T>(waitMs: number, open: () => Promise<T>): Promise<T> {
  const giveUpAt = performance.now() + waitMs;
  for (;;) {
    try {
      return await open();
    } catch (error) {
      const isHeld = error instanceof MillpondError && error.code === "CONFLICT";
      if (!isHeld || performance.now() >= giveUpAt) throw error;
      await sleep(LOOK_AGAIN_MS);
    }
  }
}
