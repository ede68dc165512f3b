/** The publisher's own checkpoint, beside another publisher that is faster. */
import { expect, test } from "vitest";
import { fromItem } from "../../../lib/commit/checkpoint.js";
import { Publisher } from "../../../lib/commit/publisher.js";
import { definitionHash } from "../../../lib/define/json.js";
import { compileStream } from "../../../lib/engine/program.js";
import { valueAt } from "../../../lib/engine/row-values.js";
import { publisherId } from "../../../lib/runtime/runner.js";
import { clickRecords, clicksPipeline } from "../handlers/clicks.js";
import {
  context,
  kafkaEvent,
  type MemoryStores,
  memoryStores,
  processorOver,
  through,
} from "../handlers/kafka-support.js";

const pipeline = clicksPipeline();
const { definition, functions } = pipeline;
const program = compileStream(definition, "clicks", { functions, references: new Map() });

function publisherOver(stores: MemoryStores): Publisher {
  const id = publisherId(definition.name);
  const hash = definitionHash(definition);
  return new Publisher({ ...stores, id, definitionHash: hash, programs: [program] });
}

/** A round that changes nothing but the state: what sinks have taken. */
const took = (sinksTookUpTo: number) => ({ partitions: [], flush: () => false, sinksTookUpTo });

/** One partition's commit, and a publisher that has not taken it. */
async function fedStores() {
  // The publisher's state is too large for the item.
  const stores = memoryStores(16);
  const records = clickRecords(300);
  const event = kafkaEvent([{ topic: "clicks", partition: 0, records }]);
  await processorOver(pipeline, stores).handle(event, context);
  const id = `${definition.name}/partitions/clicks/0`;
  const item = (await stores.checkpoints.read(id))!;
  const checkpoint = fromItem(id, item);
  const facts = { id, stream: "clicks", partition: 0, checkpoint, idle: false };
  const publisher = publisherOver(stores);
  await publisher.load();
  return { stores, publisher, facts };
}

async function publishedStores(): Promise<{ stores: MemoryStores; publisher: Publisher }> {
  const { stores, publisher, facts } = await fedStores();
  await publisher.round({ partitions: [facts], flush: () => true, sinksTookUpTo: 0 });
  return { stores, publisher };
}

/** What was published of the windowed table. */
async function pagesOf(publisher: Publisher): Promise<string[]> {
  const rows: string[] = [];
  for (const publication of publisher.state.publications) {
    if (publication.table !== "pages") continue;
    const { rowCount, columns } = await publisher.batchOf(publication);
    for (let row = 0; row < rowCount; row++) {
      rows.push(columns.map((column) => String(valueAt(column, row))).join());
    }
  }
  return rows.sort((a, b) => (a < b ? -1 : 1));
}

test("a state that another publisher replaces while it is read is read again", async () => {
  const { stores, publisher } = await publishedStores();
  let isFirst = true;
  const late = publisherOver(
    through(stores, {
      async after({ name }) {
        if (name !== "read" || !isFirst) return;
        isFirst = false;
        await publisher.round(took(1));
      },
    }),
  );
  await late.load();
  expect(late.state).toEqual(publisher.state);
});

test("a state that is gone is an error that names it", async () => {
  const { stores } = await publishedStores();
  const prefix = `${publisherId(definition.name)}/state/`;
  const [key = ""] = await stores.objects.list(prefix);
  await stores.objects.delete(key);
  await expect(publisherOver(stores).load()).rejects.toThrow(`object "${key}" is named by`);
});

test("publishes no more at a time than it is told, and all of it in the end", async () => {
  const { publisher: whole } = await publishedStores();
  const windows = whole.state.windows.pages!.length;
  const { publisher, facts } = await fedStores();
  const sizes: number[] = [];
  do {
    const from = publisher.state.sequence;
    const options = { partitions: [facts], flush: () => true, sinksTookUpTo: 0, bytesMax: 1 };
    await publisher.round(options);
    const { publications } = publisher.state;
    sizes.push(
      publications.filter(({ table, sequence }) => table === "pages" && sequence > from).length,
    );
  } while (publisher.isBehind);
  expect(sizes).toEqual(Array.from({ length: windows }, () => 1));
  expect(await pagesOf(publisher)).toEqual(await pagesOf(whole));
});
