/** A proxy in front of an HTTP server that plays a network's faults, request by request. */
import { once } from "node:events";
import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";

/**
 * - `drop`: the connection breaks before the server saw the request.
 * - `lose`: the server has done it, and the connection breaks before the reply.
 * - `hang`: the server has done it, and nothing more comes.
 * - `cut`: half of the reply's body comes; `stall`: and the connection stays open.
 * - `flip`: a bit of the reply's body is wrong; `flipRequest`: of the request's.
 * - an answer: given in the server's place.
 */
export type Fault =
  | "drop"
  | "lose"
  | "hang"
  | "cut"
  | "stall"
  | "flip"
  | "flipRequest"
  | { readonly status: number; readonly body: string };

export interface ProxiedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The DynamoDB operation, or the method for S3. */
  readonly operation: string;
  /** The client's end of the connection. */
  readonly clientPort: number;
}

export interface FaultyProxy {
  readonly endpoint: string;
  /** Asked for each request; null lets it pass. */
  plan: (request: ProxiedRequest) => Fault | null;
  /** How many requests came. */
  count: number;
  stop(): Promise<void>;
}

/** @example const proxy = await startFaultyProxy(aws.endpoint); proxy.plan = () => "lose"; */
export async function startFaultyProxy(target: string): Promise<FaultyProxy> {
  const agent = new Agent({ keepAlive: true });
  const server = createServer((incoming, outgoing) => {
    proxy.count++;
    const fault = proxy.plan(describe(incoming));
    serve(target, agent, incoming, outgoing, fault).catch(() => outgoing.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const proxy: FaultyProxy = {
    endpoint: `http://127.0.0.1:${port}`,
    plan: () => null,
    count: 0,
    async stop() {
      agent.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}

function describe(incoming: IncomingMessage): ProxiedRequest {
  const { method = "", url = "", headers, socket } = incoming;
  const clientPort = socket.remotePort ?? 0;
  const dynamoDb = String(headers["x-amz-target"] ?? "").split(".")[1];
  return { method, path: url, headers, operation: dynamoDb ?? method, clientPort };
}

async function serve(
  target: string,
  agent: Agent,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  fault: Fault | null,
): Promise<void> {
  const sent = await bytesOf(incoming);
  if (fault === "drop") {
    outgoing.destroy();
    return;
  }
  if (fault !== null && typeof fault === "object") {
    outgoing.writeHead(fault.status, { "content-type": "application/octet-stream" });
    outgoing.end(fault.body);
    return;
  }
  const forwarded = request(new URL(incoming.url ?? "/", target), {
    agent,
    method: incoming.method,
    headers: incoming.headers,
  });
  forwarded.end(fault === "flipRequest" ? flipped(sent) : sent);
  const [reply] = (await once(forwarded, "response")) as [IncomingMessage];
  const body = await bytesOf(reply);
  if (fault === "hang") return;
  if (fault === "lose") {
    outgoing.destroy();
    return;
  }
  outgoing.writeHead(reply.statusCode ?? 502, reply.headers);
  if (fault === "cut" || fault === "stall") {
    outgoing.write(body.subarray(0, body.length >> 1), () => {
      if (fault === "cut") outgoing.destroy();
    });
    return;
  }
  outgoing.end(fault === "flip" ? flipped(body) : body);
}

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const middle = copy.length >> 1;
  if (copy.length > 0) copy[middle] = copy[middle]! ^ 1;
  return copy;
}

async function bytesOf(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
