/** `millpond tail`: what a Kafka topic holds, read without a consumer group. */
import { Command, InvalidArgumentError } from "commander";
import { whole } from "./numbers.js";

export interface TailFlags {
  readonly bootstrap?: string;
  readonly pipeline?: string;
  readonly from?: TailFrom;
  readonly limit?: number;
  readonly partition?: number;
  readonly json?: boolean;
  readonly follow?: boolean;
}

export type TailFrom =
  | { readonly kind: "beginning" | "end" }
  | { readonly kind: "offset"; readonly offset: number }
  | { readonly kind: "time"; readonly timestampMs: number };

const COUNT_MAX = 999_999_999;

const HELP = `
Without --from, the last records (10, or --limit). No consumer group is joined, and no offset is
committed: reading disturbs nobody. Of transactions, what is committed is shown.

A line is partition/offset, timestamp, key and value; characters that a terminal would obey are
escaped. With --pipeline, values are read by the schema of the pipeline's stream: what does not
fit is shown with the reason that it has in the table dead_letters.

Examples:
  $ millpond tail readings
  $ millpond tail readings --pipeline pipelines/sensors.ts --follow
  $ millpond tail readings --from 2025-01-01T00:00:00Z --limit 100 --json | jq .value
  $ millpond tail readings --partition 2 --from 1500 --limit 1

Login comes from the environment, as in docs/dev.md.
`;

export function tailCommand(): Command {
  return new Command("tail")
    .description("show records of a Kafka topic, as they are or by a pipeline's schema")
    .argument("<topic>", "the topic, or a stream of --pipeline")
    .option("--bootstrap <h:p,…>", "brokers; MILLPOND_BOOTSTRAP or localhost:9092 by default")
    .option("--pipeline <file>", "decode by the stream of this pipeline")
    .option("--from <place>", "beginning, end, an offset, or an ISO time", place)
    .option("--limit <n>", "stop after so many records", whole(0, COUNT_MAX))
    .option("--partition <p>", "of one partition", whole(0, COUNT_MAX))
    .option("--follow", "wait for more; Ctrl-C ends it")
    .option("--json", "a JSON object a line, with headers")
    .addHelpText("after", HELP)
    .action(async (topic: string, flags: TailFlags) => {
      const { tail } = await import("./tail-run.js");
      await tail(topic, flags);
    });
}

function place(value: string): TailFrom {
  if (value === "beginning" || value === "end") return { kind: value };
  if (/^\d{1,15}$/.test(value)) return { kind: "offset", offset: Number(value) };
  const timestampMs = Date.parse(value);
  if (/^\d{4}-.*(Z|[+-]\d\d:?\d\d)$/.test(value) && !Number.isNaN(timestampMs)) {
    return { kind: "time", timestampMs };
  }
  throw new InvalidArgumentError(
    "Give beginning, end, an offset, or an ISO time with its offset: 2025-01-01T00:00:00Z.",
  );
}
