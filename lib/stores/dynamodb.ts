/**
 * Checkpoints as items of one DynamoDB table. A conditional put is the commit; replies that are
 * lost, also those that the SDK's own retries hide, are left to the cell to resolve by commit id.
 */
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  paginateQuery,
  paginateScan,
} from "@aws-sdk/client-dynamodb";
import type { CheckpointItem, CheckpointStore } from "../commit/ports.js";
import { MillpondError } from "../errors.js";
import {
  CONNECT_TIMEOUT_MS,
  explained,
  REQUEST_ATTEMPTS_MAX,
  REQUESTS_MAX,
  RETRY_MODE,
} from "./aws-errors.js";
import { Gate } from "./gate.js";
import { checkKey, compareKeys } from "./keys.js";

/** An item is some KB: a reply that takes longer will not come. */
const REQUEST_TIMEOUT_MS = 3_000;
/** DynamoDB's limits of a partition key and a sort key. */
const PARTITION_KEY_BYTES_MAX = 2048;
const SORT_KEY_BYTES_MAX = 1024;
/** Sort keys can't be empty; no id has an empty segment, so this stands for "no second segment". */
const NO_NAME = "/";

/** A client that takes endpoint, region and credentials from the environment, as the CLI does. */
export function dynamoDbClient(): DynamoDBClient {
  return new DynamoDBClient({
    maxAttempts: REQUEST_ATTEMPTS_MAX,
    retryMode: RETRY_MODE,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      // That one ends with the reply's head; its body could stall for ever.
      socketTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
    },
  });
}

/**
 * Checkpoints in a table with partition key `pipeline` (the id's first segment) and sort key `name`
 * (the rest); further attributes are `generation`, `commitId`, `attributes` (JSON) and `payload`.
 * Throws `MillpondError("STORAGE")` when DynamoDB fails; of a swap the outcome is then unknown.
 *
 * @example
 * const checkpoints = new DynamoDbCheckpointStore("millpond-state");
 * const item = await checkpoints.read("flights/partitions/departures/0");
 */
export class DynamoDbCheckpointStore implements CheckpointStore {
  /**
   * A put costs 1 write unit per KB of the whole item ($0.625 a million), an object 1 PUT ($5 a
   * million), as much as 8 KB. With deltas of d KB and a payload of at most P, deltas are rewritten
   * P²/2d KB until one PUT (8) moves them: per commit P/2 + 8d/P units, least at P = 4√d. That is
   * 4 KB for 1 KB deltas and 8 KB for 4 KB deltas; beyond 8 KB a piece is cheaper in an object.
   * With ATTRIBUTES_BYTES_MAX and the keys an item stays under DynamoDB's 400 KB.
   */
  readonly payloadBytesMax = 8 * 1024;
  readonly #table: string;
  readonly #client: DynamoDBClient;
  readonly #gate = new Gate(REQUESTS_MAX);

  constructor(table: string, client: DynamoDBClient = dynamoDbClient()) {
    this.#table = table;
    this.#client = client;
  }

  read(id: string): Promise<CheckpointItem | null> {
    return this.#explained(`read checkpoint "${id}"`, async () => {
      const { Item } = await this.#client.send(
        new GetItemCommand({ TableName: this.#table, Key: keyOf(id), ConsistentRead: true }),
      );
      return Item === undefined ? null : toItem(id, Item);
    });
  }

  compareAndSwap(id: string, item: CheckpointItem): Promise<"committed" | "conflict"> {
    return this.#explained(`write checkpoint "${id}"`, async () => {
      const previous = item.generation - 1;
      const command = new PutItemCommand({
        TableName: this.#table,
        Item: {
          ...keyOf(id),
          generation: { N: String(item.generation) },
          commitId: { S: item.commitId },
          attributes: { S: JSON.stringify(item.attributes) },
          payload: { B: item.payload },
        },
        ConditionExpression:
          previous === 0 ? "attribute_not_exists(#generation)" : "#generation = :previous",
        ExpressionAttributeNames: { "#generation": "generation" },
        ExpressionAttributeValues:
          previous === 0 ? undefined : { ":previous": { N: String(previous) } },
      });
      try {
        await this.#client.send(command);
        return "committed";
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return "conflict";
        throw error;
      }
    });
  }

  /** A prefix without "/" reads the keys of the whole table, which only tools should do. */
  list(prefix: string): Promise<string[]> {
    return this.#explained(`list checkpoints "${prefix}"`, async () => {
      const slash = prefix.indexOf("/");
      const pages = slash < 0 ? this.#scan() : this.#query(prefix.slice(0, slash), prefix);
      const ids: string[] = [];
      for await (const { Items = [] } of pages) {
        for (const { pipeline, name } of Items) ids.push(idOf(pipeline?.S, name?.S));
      }
      return ids.filter((id) => id.startsWith(prefix)).sort(compareKeys);
    });
  }

  #query(pipeline: string, prefix: string) {
    const rest = prefix.slice(pipeline.length + 1);
    const hasRest = rest !== "";
    return paginateQuery(
      { client: this.#client },
      {
        TableName: this.#table,
        ConsistentRead: true,
        KeyConditionExpression: `#p = :p${hasRest ? " AND begins_with(#n, :n)" : ""}`,
        ProjectionExpression: "#p, #n",
        ExpressionAttributeNames: { "#p": "pipeline", "#n": "name" },
        ExpressionAttributeValues: {
          ":p": { S: pipeline },
          ...(hasRest ? { ":n": { S: rest } } : {}),
        },
      },
    );
  }

  #scan() {
    return paginateScan(
      { client: this.#client },
      {
        TableName: this.#table,
        ConsistentRead: true,
        ProjectionExpression: "#p, #n",
        ExpressionAttributeNames: { "#p": "pipeline", "#n": "name" },
      },
    );
  }

  #explained<T>(doing: string, work: () => Promise<T>): Promise<T> {
    return explained(doing, `DynamoDB table "${this.#table}"`, () => this.#gate.pass(work));
  }
}

function keyOf(id: string): Record<string, AttributeValue> {
  checkKey(id);
  const slash = id.indexOf("/");
  const pipeline = slash < 0 ? id : id.slice(0, slash);
  const name = slash < 0 ? NO_NAME : id.slice(slash + 1);
  if (
    Buffer.byteLength(pipeline) > PARTITION_KEY_BYTES_MAX ||
    Buffer.byteLength(name) > SORT_KEY_BYTES_MAX
  ) {
    throw new MillpondError(
      "LIMIT",
      `checkpoint id "${id}" is too long for DynamoDB: expected at most ` +
        `${PARTITION_KEY_BYTES_MAX} bytes before the first "/" and ${SORT_KEY_BYTES_MAX} after ` +
        "it. Shorten the names of pipeline and stream",
    );
  }
  return { pipeline: { S: pipeline }, name: { S: name } };
}

function idOf(pipeline = "", name = ""): string {
  return name === NO_NAME ? pipeline : `${pipeline}/${name}`;
}

function toItem(id: string, stored: Record<string, AttributeValue>): CheckpointItem {
  const generation = Number(stored.generation?.N);
  const commitId = stored.commitId?.S;
  const payload = stored.payload?.B;
  const attributes: unknown = parseJson(stored.attributes?.S);
  if (
    Number.isSafeInteger(generation) &&
    commitId !== undefined &&
    payload !== undefined &&
    typeof attributes === "object" &&
    attributes !== null
  ) {
    return { generation, commitId, attributes: { ...attributes }, payload };
  }
  throw new MillpondError(
    "STORAGE",
    `checkpoint "${id}" is damaged: expected generation, commitId, attributes (JSON) and ` +
      `payload, found ${Object.keys(stored).join(", ")}. Something else wrote it: restore the ` +
      "table to a point in time before that",
  );
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return null;
  }
}
