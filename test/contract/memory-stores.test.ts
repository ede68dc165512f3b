/** The store contract over the in-memory stores. */
import { MemoryCheckpointStore, MemoryObjectStore } from "../../lib/stores/memory.js";
import { CLIENTS, describeStores } from "./stores.js";

describeStores("memory stores", async () => {
  const checkpoints = new MemoryCheckpointStore();
  const objects = new MemoryObjectStore();
  return {
    checkpoints: Array.from({ length: CLIENTS }, () => checkpoints.withFaults({})),
    objects: Array.from({ length: CLIENTS }, () => objects.withFaults({})),
    cleanup: async () => {},
  };
});
