/**
 * Flags of V8 for a process that runs pipelines; imported before anything else, for its effect.
 *
 * - Loops are compiled when their function is called next, not while they run: ours run once a
 *   slice, and code made in the middle of the first slices is thrown away at each loop's end.
 * - Garbage is marked in one go: the heap is small (13 MB), and buffers outside of it would
 *   have it marked bit by bit, on other threads, five times as often.
 * - In Node.js 20, functions are compiled later, having seen more, and so fewer are: 4.5 times the
 *   67,584 bytes of bytecode that V8 waits for. Later versions count calls, and have no such flag.
 *
 * Each takes 3 to 6 % off a run of tumbling windows (docs/performance.md).
 */
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--no-use-osr");
setFlagsFromString("--no-incremental-marking");
if (process.versions.node.startsWith("20.")) setFlagsFromString("--interrupt-budget=300000");
