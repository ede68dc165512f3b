/** Records as bad producers send them. None of them can become an event of the stream's schema. */
import type { Random } from "./random.js";

type Damage = (line: string, random: Random) => string | Uint8Array;

const DAMAGES: readonly Damage[] = [
  /** Cut short by a producer that died. */
  (line, random) => line.slice(0, 1 + random.below(line.length - 2)),
  /** Bytes of something else: never a line break, never UTF-8. */
  (_line, random) => {
    const bytes = Uint8Array.from({ length: 20 + random.below(60) }, () => 11 + random.below(245));
    bytes[0] = 0xff;
    return bytes;
  },
  /** A time that is none. */
  (line) => line.replace(/"event_time":"[^"]*"/, '"event_time":"yesterday"'),
  /** A number where the id's string belongs. */
  (line, random) => line.replace(/_id":"[^"]*"/, `_id":${random.below(1_000_000)}`),
  /** No event time at all. */
  (line) => line.replace(/,"event_time":"[^"]*"/, ""),
];

export function damaged(line: string, random: Random): string | Uint8Array {
  return random.pick(DAMAGES)(line, random);
}
