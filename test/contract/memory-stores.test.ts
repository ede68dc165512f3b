/** The store contract over the in-memory stores. */
import { MemoryCheckpointStore, MemoryObjectStore } from "../../lib/stores/memory.js";
import { describeStores } from "./stores.js";

describeStores("memory stores", async () => ({
  checkpoints: new MemoryCheckpointStore(),
  objects: new MemoryObjectStore(),
  cleanup: async () => {},
}));
