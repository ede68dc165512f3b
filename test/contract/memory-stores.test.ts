/** The store contract over the in-memory stores. */
import { MemoryCheckpointStore, MemoryObjectStore } from "../../lib/stores/memory.js";
import { describeStores } from "./stores.js";

describeStores("memory stores", async () => {
  const checkpoints = new MemoryCheckpointStore();
  const objects = new MemoryObjectStore();
  return {
    checkpoints,
    objects,
    another: () => ({
      checkpoints: checkpoints.withFaults({}),
      objects: objects.withFaults({}),
    }),
    cleanup: async () => {},
  };
});
