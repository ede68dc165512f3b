/** Reading topics by kcat, which is librdkafka: a reader that shares nothing with our client. */
import { run } from "./cache.js";

export interface KcatRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly key: string | null;
  readonly payload: string | null;
  readonly headers: Readonly<Record<string, string>>;
}

/** Null when kcat is here; otherwise what to install. */
export async function missingKcat(): Promise<string | null> {
  try {
    await run("kcat", ["-V"]);
    return null;
  } catch {
    return "kcat is not here: install it (Debian: apt-get install kcat)";
  }
}

const OUTPUT_BYTES_MAX = 1 << 29;

/** All records of a topic that are committed, by partition and offset. */
export async function readByKcat(bootstrap: string, topic: string): Promise<KcatRecord[]> {
  const lines = await kcatLines(bootstrap, topic, ["-J"]);
  const records = lines.map((line): KcatRecord => {
    const { headers = [], ...record } = JSON.parse(line);
    return { ...record, headers: pairs(headers) };
  });
  return records.sort((a, b) => a.partition - b.partition || a.offset - b.offset);
}

/** A line for each record that is committed, as `format` (kcat's options) says. */
export async function kcatLines(
  bootstrap: string,
  topic: string,
  format: readonly string[],
  encoding: BufferEncoding = "utf8",
): Promise<string[]> {
  const reading = ["-C", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", ...format];
  const { stdout } = await run("kcat", [...reading, "-X", "isolation.level=read_committed"], {
    maxBuffer: OUTPUT_BYTES_MAX,
    encoding,
  });
  return stdout.split("\n").filter((line) => line !== "");
}

/** kcat writes names and values in turn. */
function pairs(headers: readonly string[]): Record<string, string> {
  const names = headers.filter((_, index) => index % 2 === 0);
  return Object.fromEntries(names.map((name, index) => [name, headers[2 * index + 1]!]));
}
