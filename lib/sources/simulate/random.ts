/** Seeded randomness for the simulators: the same seed gives the same numbers on every machine. */

/** sfc32 (Chris Doty-Humphrey, PractRand): 128 bits of state, 32-bit steps only. */
export class Random {
  #a = 0;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    this.#b = seed | 0;
    this.#c = Math.floor(seed / 4294967296) | 0;
    for (let i = 0; i < 15; i++) this.bits();
  }

  /** 32 random bits, unsigned. */
  bits(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** In [0, 1). */
  unit(): number {
    return this.bits() / 4294967296;
  }

  /** A whole number in [0, n). */
  below(n: number): number {
    return Math.floor(this.unit() * n);
  }

  /** In place (Fisher-Yates). */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [items[i], items[j]] = [items[j]!, items[i]!];
    }
    return items;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }
}

/** Picks 0 … n-1, i with weight 1/(i+1)^exponent, in constant time (alias method). */
export class Zipf {
  readonly #chance: Float64Array;
  readonly #alias: Int32Array;

  constructor(n: number, exponent: number) {
    const weights = Float64Array.from({ length: n }, (_, i) => (i + 1) ** -exponent);
    const mean = weights.reduce((sum, weight) => sum + weight, 0) / n;
    this.#chance = weights.map((weight) => weight / mean);
    this.#alias = Int32Array.from({ length: n }, (_, i) => i);
    const small: number[] = [];
    const large: number[] = [];
    for (const [i, chance] of this.#chance.entries()) (chance < 1 ? small : large).push(i);
    while (small.length > 0 && large.length > 0) {
      const poor = small.pop()!;
      const rich = large.at(-1)!;
      this.#alias[poor] = rich;
      this.#chance[rich] = this.#chance[rich]! + this.#chance[poor]! - 1;
      if (this.#chance[rich]! < 1) small.push(large.pop()!);
    }
  }

  pick(random: Random): number {
    const i = random.below(this.#chance.length);
    return random.unit() < this.#chance[i]! ? i : this.#alias[i]!;
  }
}

const HEX4 = Array.from({ length: 65536 }, (_, i) => i.toString(16).padStart(4, "0"));

/** A UUID whose first part counts up from `index`, so that two are never equal. */
export function uuid(random: Random, index: number): string {
  const [a, b] = [random.bits(), random.bits()];
  const head = HEX4[(index >>> 16) & 0xffff]! + HEX4[index & 0xffff]!;
  const [version, variant] = [0x4000 | (a & 0xfff), 0x8000 | (b & 0x3fff)];
  const more = HEX4[Math.floor(index / 4294967296) & 0xffff]!;
  const tail = more + HEX4[a >>> 16]! + HEX4[b >>> 16]!;
  return `${head}-${HEX4[(a ^ b) & 0xffff]}-${HEX4[version]}-${HEX4[variant]}-${tail}`;
}

/** FNV-1a: which partition a key belongs to. */
export function partitionOf(key: string, partitions: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % partitions;
}
