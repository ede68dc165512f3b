/** Serves a registry to Prometheus: `GET /metrics`, on this machine alone unless told otherwise. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";
import { MillpondError } from "../errors.js";

export interface MetricsSource {
  readonly registry: Registry;
  /** Brings the registry up to date before it is read. */
  refresh(): Promise<void>;
}

export interface MetricsAddress {
  readonly host: string;
  /** 0: one that is free. */
  readonly port: number;
}

/**
 * @example
 * const endpoint = await MetricsEndpoint.start({ host: "127.0.0.1", port: 9464 });
 * endpoint.source = { registry, refresh };
 */
export class MetricsEndpoint {
  /** Null: nothing to tell, which is an empty page. */
  source: MetricsSource | null = null;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Throws `MillpondError("USAGE")` when it can't listen there. */
  static async start({ host, port }: MetricsAddress): Promise<MetricsEndpoint> {
    const server = createServer();
    const endpoint = new MetricsEndpoint(server);
    server.on("request", (request, response) => {
      // Not as a URL: what is no valid one ("//") would throw, and end the pipeline's process.
      const [pathname] = (request.url ?? "").split("?");
      if (request.method !== "GET" || pathname !== "/metrics") {
        response.writeHead(404, { "content-type": "text/plain" }).end("see /metrics\n");
        return;
      }
      endpoint.#page().then(
        ({ type, text }) => response.writeHead(200, { "content-type": type }).end(text),
        (error: unknown) => response.writeHead(500).end(`${String(error)}\n`),
      );
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => reject(notListening(host, port, cause)));
      server.listen(port, host, resolve);
    });
    return endpoint;
  }

  /** Where it listens, as a URL. */
  get url(): string {
    // A server that listens on a port has such an address.
    const { address, port, family } = this.#server.address() as AddressInfo;
    return `http://${family === "IPv6" ? `[${address}]` : address}:${port}/metrics`;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #page(): Promise<{ readonly type: string; readonly text: string }> {
    const { source } = this;
    if (source === null) return { type: "text/plain; version=0.0.4; charset=utf-8", text: "" };
    await source.refresh();
    return { type: source.registry.contentType, text: await source.registry.metrics() };
  }
}

function notListening(host: string, port: number, cause: Error): MillpondError {
  return new MillpondError(
    "USAGE",
    `metrics can't be served on ${host}:${port}: ${cause.message}. Give another --metrics-port`,
    { cause },
  );
}
