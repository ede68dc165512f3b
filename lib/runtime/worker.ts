/**
 * A worker thread of `millpond run --workers`: builds its partitions' runner and obeys messages.
 */
import { parentPort, workerData } from "node:worker_threads";
import { compileStream } from "../engine/program.js";
import { MillpondError } from "../errors.js";
import { openFileSources } from "../sources/files/index.js";
import { FileCheckpointStore, FileObjectStore } from "../stores/files.js";
import { goneSource } from "./gone-source.js";
import { loadPipeline } from "./load-pipeline.js";
import { outputPaths } from "./output.js";
import { loadReferences } from "./references.js";
import { LocalRunner } from "./runner.js";
import type { WorkerReply, WorkerRequest, WorkerSetup } from "./workers.js";

async function makeRunner(setup: WorkerSetup): Promise<LocalRunner> {
  const pipeline = await loadPipeline(setup.pipelineFile, setup.overrides);
  const { definition, functions } = pipeline;
  const references = (await loadReferences(pipeline)).data;
  const partitions = [];
  for (const stream of definition.streams) {
    const own = setup.partitions.filter((partition) => partition.stream === stream.name);
    if (own.length === 0) continue;
    const known = new Map(own.map(({ label, partition }) => [label, partition]));
    const path = setup.inputs.get(stream.name)!;
    const { sources, missing } = await openFileSources({ path, stream, known });
    const program = compileStream(definition, stream.name, { functions, references });
    const gone = missing.map((name) => goneSource(stream.name, known.get(name)!, name));
    for (const source of [...sources, ...gone]) {
      if (known.get(source.label) === source.partition) partitions.push({ program, source });
    }
  }
  const paths = outputPaths(setup.out);
  return new LocalRunner({
    checkpoints: new FileCheckpointStore(paths.checkpoints),
    objects: new FileObjectStore(paths.objects),
    pipeline: definition.name,
    definitionHash: setup.definitionHash,
    partitions,
    batchSize: setup.batchSize,
  });
}

const port = parentPort;
if (port !== null) {
  const runner = makeRunner(workerData as WorkerSetup);
  port.on("message", (request: WorkerRequest) => {
    obey(runner, request)
      .then((reply) => port.postMessage(reply))
      .catch((error: unknown) => port.postMessage(failed(error)));
  });
}

async function obey(made: Promise<LocalRunner>, request: WorkerRequest): Promise<WorkerReply> {
  const runner = await made;
  let ended = false;
  if (request.kind === "turn") ended = (await runner.turn(request.taken)).ended;
  else if (request.kind === "flush") await runner.flush(request.taken);
  else if (request.kind === "updates") await runner.publishUpdates(request.tables);
  else await runner.close();
  return { kind: "done", ended, progress: runner.progress() };
}

function failed(error: unknown): WorkerReply {
  const code = error instanceof MillpondError ? error.code : null;
  const message = error instanceof Error ? error.message : String(error);
  return { kind: "failed", code, message };
}
