/** A `millpond dev` from its start to Ctrl-C: sessions one after the other, as the file changes. */
import * as path from "node:path";
import { type DevOptions, DevSession, hashOfPipeline, streamOf } from "../dev/session.js";
import { filesOf, type PipelineWatch, watchFiles } from "../dev/watch.js";
import { MetricsEndpoint } from "../observe/metrics-endpoint.js";
import { loadPipeline } from "../runtime/load-pipeline.js";
import type { DevFlags } from "./dev.js";
import { DevView } from "./dev-view.js";

const STATUS_EVERY_MS = 1_000;
const IN_EARNEST_AFTER_MS = 1_000;

export class DevRun {
  readonly #file: string;
  readonly #flags: DevFlags;
  readonly #view: DevView;
  #watch: PipelineWatch | null = null;
  #session: DevSession | null = null;
  #endpoint: MetricsEndpoint | null = null;
  #isFirst = true;
  /** Starts, restarts and the end take turns. */
  #last: Promise<void> = Promise.resolve();
  #isEnding = false;

  constructor(file: string, flags: DevFlags) {
    this.#file = file;
    this.#flags = flags;
    const json = flags.json === true;
    const stream = json ? process.stdout : process.stderr;
    this.#view = new DevView({ stream, isTTY: stream.isTTY === true, json });
  }

  async run(): Promise<void> {
    const ended = new Promise<void>((resolve) => {
      let endingSince = 0;
      const onSignal = () => {
        // The second time is in earnest; npx and the terminal both send the first one.
        if (this.#isEnding && performance.now() - endingSince > IN_EARNEST_AFTER_MS) {
          process.exit(130);
        }
        if (this.#isEnding) return;
        this.#isEnding = true;
        endingSince = performance.now();
        this.#view.note({ kind: "stopping", message: "stopping: what is under way ends first" });
        resolve();
      };
      process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
    });
    const { metricsPort } = this.#flags;
    if (metricsPort !== undefined) this.#endpoint = await MetricsEndpoint.start(metricsPort);
    this.#watch = watchFiles([path.resolve(this.#file)], () => {
      void this.#takeTurn(() => this.#restart());
    });
    try {
      // What is wrong at first is for the caller; later, the next change may put it right.
      await this.#takeTurn(() => this.#start());
      const timer = setInterval(() => void this.#showStatus(), STATUS_EVERY_MS);
      await ended;
      clearInterval(timer);
    } finally {
      this.#watch.close();
      await this.#endpoint?.close();
    }
    await this.#takeTurn(() => this.#stop());
    this.#view.note({ kind: "stopped", message: "stopped; running it again continues" });
  }

  #takeTurn(work: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(work);
    return this.#last;
  }

  async #start(): Promise<void> {
    const flags = this.#flags;
    const pipeline = await loadPipeline(this.#file, flags.set);
    this.#watch?.add(await filesOf(this.#file, pipeline));
    const { name } = pipeline.definition;
    const hash = await hashOfPipeline(pipeline);
    const out = flags.out ?? path.join("out", "dev", `${name}-${hash.slice(0, 8)}`);
    const bootstrap = flags.bootstrap ?? defaultBootstrap();
    const options: DevOptions = {
      pipeline,
      env: {
        ...process.env,
        ...(bootstrap !== undefined && { MILLPOND_BOOTSTRAP: bootstrap }),
      },
      store: flags.store === "aws" ? { kind: "aws" } : { kind: "file", out },
      partitions: flags.partitions,
      pollers: flags.pollers,
      simulate: flags.simulate.map(({ stream, simulator }) => ({
        stream: streamOf(pipeline, stream, "--simulate <stream>=<simulator>"),
        request: { simulator, rate: flags.rate, late: 0.005, duplicates: 0.01, malformed: 0.002 },
      })),
      folders: flags.files.map(({ stream, dir }) => ({
        stream: streamOf(pipeline, stream, "--files <stream>=<dir>"),
        dir,
      })),
      ...(flags.function !== undefined && { functionName: flags.function }),
      onTrouble: (error) => this.#view.trouble(error),
    };
    this.#session = await DevSession.start(options);
    const shown = flags.function ?? (flags.store === "aws" ? "the AWS stores" : out);
    const metrics = this.#endpoint?.url;
    if (this.#endpoint !== null) this.#endpoint.source = this.#session.metrics;
    const kind = this.#isFirst ? "started" : "restarted";
    this.#view.note({
      kind,
      pipeline: name,
      out: shown,
      ...(metrics !== undefined && { metrics }),
    });
    this.#isFirst = false;
  }

  async #restart(): Promise<void> {
    if (this.#isEnding) return;
    try {
      await this.#stop();
      await this.#start();
    } catch (error) {
      this.#view.trouble(error);
      this.#view.note({ kind: "waiting", message: "waiting for the next change" });
    }
  }

  async #stop(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    if (this.#endpoint !== null) this.#endpoint.source = null;
    await session?.stop();
  }

  async #showStatus(): Promise<void> {
    try {
      const status = await this.#session?.status();
      if (status !== undefined) this.#view.status(status);
    } catch (error) {
      this.#view.trouble(error);
    }
  }
}

/** Without any setting, a broker on this machine. */
function defaultBootstrap(): string | undefined {
  const { MILLPOND_BOOTSTRAP, MILLPOND_CLUSTER_ARN } = process.env;
  return MILLPOND_BOOTSTRAP ?? (MILLPOND_CLUSTER_ARN === undefined ? "localhost:9092" : undefined);
}
