/** Runners in worker threads: each takes some partitions, and this side only passes messages. */
import { Worker } from "node:worker_threads";
import { type ErrorCode, MillpondError } from "../errors.js";
import type { PartitionProgress, Runner } from "./runner.js";

export interface WorkerPartition {
  readonly stream: string;
  readonly partition: number;
  readonly id: string;
  readonly label: string;
}

/** What a worker needs to build the same programs and sources as the main thread. */
export interface WorkerSetup {
  readonly pipelineFile: string;
  readonly overrides: ReadonlyMap<string, string>;
  readonly out: string;
  readonly inputs: ReadonlyMap<string, string>;
  readonly batchSize: number;
  readonly definitionHash: string;
  readonly partitions: readonly WorkerPartition[];
}

export type WorkerRequest =
  | { readonly kind: "turn"; readonly taken: Readonly<Record<string, number>> }
  | { readonly kind: "flush"; readonly taken: Readonly<Record<string, number>> }
  | { readonly kind: "updates"; readonly tables: ReadonlySet<string> }
  | { readonly kind: "close" };

export type WorkerReply =
  | {
      readonly kind: "done";
      readonly ended: boolean;
      readonly progress: readonly PartitionProgress[];
    }
  | { readonly kind: "failed"; readonly code: ErrorCode | null; readonly message: string };

export function startWorkers(setup: WorkerSetup & { readonly workers: number }): Runner[] {
  const { workers, partitions, ...shared } = setup;
  return Array.from({ length: workers }, (_, w) => {
    const own = partitions.filter((_partition, i) => i % workers === w);
    return new WorkerRunner({ ...shared, partitions: own });
  });
}

class WorkerRunner implements Runner {
  private readonly worker: Worker;
  private latest: readonly PartitionProgress[];

  constructor(setup: WorkerSetup) {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { workerData: setup });
    this.latest = setup.partitions.map(({ id, stream, partition, label }) => ({
      facts: { id, stream, partition, checkpoint: null, idle: false },
      label,
      bytesRead: 0,
      bytesTotal: 0,
      warnings: [],
    }));
  }

  async turn(taken: Readonly<Record<string, number>>): Promise<{ ended: boolean }> {
    return { ended: await this.ask({ kind: "turn", taken }) };
  }

  async flush(taken: Readonly<Record<string, number>>): Promise<void> {
    await this.ask({ kind: "flush", taken });
  }

  async publishUpdates(tables: ReadonlySet<string>): Promise<void> {
    await this.ask({ kind: "updates", tables });
  }

  progress(): readonly PartitionProgress[] {
    return this.latest;
  }

  async close(): Promise<void> {
    await this.worker.terminate();
  }

  private ask(request: WorkerRequest): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.worker.off("message", onMessage);
        this.worker.off("error", onError);
        this.worker.off("exit", onExit);
      };
      const onMessage = (reply: WorkerReply) => {
        stop();
        if (reply.kind === "failed") reject(failure(reply));
        else {
          this.latest = reply.progress;
          resolve(reply.ended);
        }
      };
      const onError = (error: Error) => {
        stop();
        reject(error);
      };
      const onExit = (code: number) => {
        stop();
        const ended = `a worker thread ended with code ${code}`;
        const action = "run again to continue from the checkpoints";
        reject(new MillpondError("STORAGE", `${ended}; ${action}`));
      };
      this.worker.on("message", onMessage).on("error", onError).on("exit", onExit);
      this.worker.postMessage(request);
    });
  }
}

function failure({ code, message }: Extract<WorkerReply, { kind: "failed" }>): Error {
  return code === null ? new Error(message) : new MillpondError(code, message);
}
