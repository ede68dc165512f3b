/**
 * A file that was read before and is gone: nothing more comes from it, but what it left in its
 * checkpoint (open windows, an outbox nobody took yet) still belongs to the results.
 */
import type { PartitionSource, SourcePosition } from "../sources/source.js";

export function goneSource(topic: string, partition: number, label: string): PartitionSource {
  return {
    topic,
    partition,
    label,
    async open(_nextOffset: number, position: SourcePosition | null) {
      return {
        topic,
        partition,
        label,
        bytesTotal: 0,
        bytesRead: 0,
        read: async () => null,
        position: () => position ?? {},
        close: async () => undefined,
      };
    },
  };
}
