/** Round numbers for an axis. */

export interface Scale {
  readonly min: number;
  readonly max: number;
  /** From `min` to `max`, ends included. */
  readonly ticks: readonly number[];
  /** 0 at `min` and below, 1 at `max` and above. */
  at(value: number): number;
}

const STEPS = 4;
/** Above it differences overflow: what is beyond is drawn at the edge. */
const VALUE_MAX = 1e300;
const FINITE = 10 * VALUE_MAX;
/** Below it divisions underflow: drawn as zero. */
const VALUE_MIN = 1e-290;
/** Values that differ by less, in proportion, are drawn as equal. */
const PRECISION = 1e-9;

/** A scale that holds all values, and zero where that costs little room or `fromZero` asks it. */
export function scaleFor(values: readonly number[], fromZero: boolean): Scale {
  const clamp = (value: number) =>
    Math.abs(value) < VALUE_MIN ? 0 : Math.max(-VALUE_MAX, Math.min(VALUE_MAX, value));
  const finite = values.filter(Number.isFinite).map(clamp);
  let low = finite.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  let high = finite.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  if (finite.length === 0) [low, high] = [0, 1];
  if (fromZero || (low > 0 && low < high / 2)) low = Math.min(low, 0);
  if (fromZero || (high < 0 && high > low / 2)) high = Math.max(high, 0);
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (high - low <= PRECISION * size) {
    const room = size === 0 ? 1 : size / 2;
    if (low >= 0 && fromZero) high += room;
    else [low, high] = [low - room, high + room];
  }
  const step = roundStep((high - low) / STEPS);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  // Multiplied, not added up: 0.1 + 0.2 is no label.
  const ticks = Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  );
  const [min, max] = [first * step, last * step];
  const share = (value: number) => (Math.max(-FINITE, Math.min(FINITE, value)) - min) / (max - min);
  return { min, max, ticks, at: (value) => Math.max(0, Math.min(1, share(value))) };
}

/** The least of 1, 2, 2.5, 5, 10 times a power of ten that is at least `least`. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  const factor = [1, 2, 2.5, 5, 10].find((multiple) => multiple * power >= least * (1 - 1e-9));
  return (factor ?? 10) * power;
}
