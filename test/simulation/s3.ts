/**
 * The real S3 object store over a client that answers from the simulated objects: refusals of
 * conditional puts (412, 409), repeated requests, pages, waits between attempts.
 */
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  NoSuchKey,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import { S3Bucket, S3ObjectStore } from "../../lib/stores/s3.js";
import { countFault, FAULT_MARK } from "../../lib/testing/faults.js";
import type { ObjectsOver, SimulatedStores } from "../../lib/testing/simulated-stores.js";
import type { SimulatedProcess, World } from "../../lib/testing/world.js";

/** Short, so that there is more than one. */
const PAGE_KEYS = 3;

export const s3Objects: ObjectsOver = (world, process, stores) => {
  const wait = (ms: number) =>
    world.call(process, {
      what: "wait",
      isWrite: false,
      apply: () => {
        world.nowMs += ms;
      },
    });
  const client = new SimulatedS3(world, process, stores).client;
  return new S3ObjectStore(new S3Bucket("simulated", client, wait), "");
};

/** Which attempt wrote an object. */
const writers = new WeakMap<SimulatedStores, Map<string, Record<string, string>>>();

class SimulatedS3 {
  readonly #world: World;
  readonly #process: SimulatedProcess;
  readonly #stores: SimulatedStores;

  constructor(world: World, process: SimulatedProcess, stores: SimulatedStores) {
    this.#world = world;
    this.#process = process;
    this.#stores = stores;
  }

  /** Paginators ask whether it is one; the SDK's own way to the network is not taken. */
  get client(): S3Client {
    const send = (command: unknown) => this.#send(command);
    return Object.assign<S3Client, object>(Object.create(S3Client.prototype), { send });
  }

  async #send(command: unknown): Promise<unknown> {
    if (command instanceof PutObjectCommand) return this.#put(command.input);
    if (command instanceof GetObjectCommand) return this.#get(command.input.Key!);
    if (command instanceof HeadObjectCommand) return this.#head(command.input.Key!);
    if (command instanceof ListObjectsV2Command) return this.#list(command.input);
    if (command instanceof DeleteObjectCommand) return this.#delete(command.input.Key!);
    throw new TypeError("this command is not simulated");
  }

  get #metadata(): Map<string, Record<string, string>> {
    const found = writers.get(this.#stores) ?? new Map<string, Record<string, string>>();
    writers.set(this.#stores, found);
    return found;
  }

  async #put({ Key = "", Body, Metadata = {} }: PutObjectCommand["input"]): Promise<unknown> {
    const bytes = Uint8Array.from(Body as Uint8Array);
    const status = await this.#call(`PUT ${Key}`, true, () => {
      if (this.#world.strikes("conditional put answered 409")) return 409;
      if (this.#stores.put(Key, bytes) === "exists") return 412;
      this.#metadata.set(Key, Metadata);
      return 200;
    });
    if (status === 200) return { ETag: "1" };
    if (status === 409) throw refusal("ConditionalRequestConflict", status);
    countFault(this.#world.faults, "conditional put answered 412");
    throw refusal("PreconditionFailed", status);
  }

  async #get(key: string): Promise<unknown> {
    const bytes = await this.#call(`GET ${key}`, false, () => this.#stores.objects.get(key));
    if (bytes === undefined) {
      throw new NoSuchKey({ message: "no such key", $metadata: { httpStatusCode: 404 } });
    }
    return { Body: { transformToByteArray: async () => bytes.slice() } };
  }

  async #head(key: string): Promise<unknown> {
    const found = await this.#call(`HEAD ${key}`, false, () => this.#stores.objects.get(key));
    if (found === undefined) throw refusal("NotFound", 404);
    return { ETag: "1", ContentLength: found.length, Metadata: this.#metadata.get(key) };
  }

  #list({ Prefix = "", ContinuationToken = "" }: ListObjectsV2Command["input"]): Promise<unknown> {
    return this.#call(`LIST ${Prefix} ${ContinuationToken}`, false, () => {
      const all = [...this.#stores.objects.keys()].filter((key) => key.startsWith(Prefix));
      const keys = all.filter((key) => key > ContinuationToken).sort(byText);
      const page = keys.slice(0, PAGE_KEYS);
      const isTruncated = keys.length > page.length;
      return {
        Contents: page.map((Key) => ({ Key })),
        ...(isTruncated && { NextContinuationToken: page.at(-1) }),
      };
    });
  }

  async #delete(key: string): Promise<unknown> {
    await this.#call(`DELETE ${key}`, true, () => this.#stores.delete(key));
    return {};
  }

  #call<T>(what: string, isWrite: boolean, apply: () => T): Promise<T> {
    return this.#world.call(this.#process, { what, isWrite, apply });
  }
}

const byText = (a: string, b: string) => (a < b ? -1 : 1);

const refusal = (name: string, httpStatusCode: number) =>
  new S3ServiceException({
    name,
    message: `${FAULT_MARK}: ${name}`,
    $fault: "client",
    $metadata: { httpStatusCode },
  });
