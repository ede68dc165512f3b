/** Seeded randomness for tests whose failures must be repeatable. */

export class Random {
  readonly seed: number;
  private state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.state = seed;
  }

  /** mulberry32: 32 bits of state are plenty for test data. In [0, 1). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number in [0, end). */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  /** A whole number in [low, high]. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  /** At least one of the items and at most `most`, each once, in random order. */
  some<T>(items: readonly T[], most: number): T[] {
    const left = [...items];
    const picked: T[] = [];
    const count = this.between(1, Math.min(most, items.length));
    while (picked.length < count) picked.push(...left.splice(this.below(left.length), 1));
    return picked;
  }
}

/** `SEED` repeats a run; otherwise every run is a new one. */
export function testSeed(): number {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`seed ${seed} (set SEED to repeat)`);
  return seed;
}

/** How many random rounds: `ROUNDS` asks for more than the suite's own number. */
export const testRounds = (usual: number): number => Number(process.env.ROUNDS ?? usual);
