/** Samples from an address that serves Prometheus' text format. */
import { MillpondError } from "../../errors.js";
import { type Address, addressOf } from "./address.js";
import type { SampleSource } from "./monitor.js";
import { parseSamples } from "./samples.js";

const ANSWER_MS_MAX = 10_000;
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Throws `MillpondError("USAGE")` for what is no address.
 *
 * @example await endpointSource("http://127.0.0.1:9464/metrics").read(new Set(["up"]));
 */
export function endpointSource(address: string): SampleSource & { readonly shown: string } {
  const found = addressOf(address, "--metrics");
  const read: SampleSource["read"] = async (wanted) => parseSamples(await textAt(found), wanted);
  return { read, shown: shown(found.url) };
}

/** What follows a path may hold a secret. */
const shown = ({ host, pathname }: URL): string => `${host}${pathname}`;

async function textAt({ url, headers }: Address): Promise<string> {
  try {
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    if (!response.ok) throw unreadable(url, `status ${response.status}`);
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const part of response.body ?? []) {
      bytes += part.length;
      if (bytes > ANSWER_BYTES_MAX) throw unreadable(url, `more than ${ANSWER_BYTES_MAX} bytes`);
      parts.push(part);
    }
    return Buffer.concat(parts).toString("utf8");
  } catch (cause) {
    if (cause instanceof MillpondError) throw cause;
    const isTimeout = cause instanceof Error && cause.name === "TimeoutError";
    throw unreadable(
      url,
      isTimeout ? `no answer in ${ANSWER_MS_MAX / 1000} s` : "nobody answers",
      cause,
    );
  }
}

function unreadable(url: URL, found: string, cause?: unknown): MillpondError {
  return new MillpondError(
    "INPUT",
    `metrics at ${shown(url)} can't be read: ${found}. Start the pipeline with ` +
      "--metrics-port, or give the address that it shows",
    { cause },
  );
}
