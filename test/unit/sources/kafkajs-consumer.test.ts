/** A consumer while it joins its group anew: what kafkajs refuses then, and is not asked for. */
import { Kafka, logLevel } from "kafkajs";
import { expect, test } from "vitest";
import { whileJoined } from "../../../lib/sources/kafka/kafkajs-consumer.js";

test("a partition of a consumer that is not joined can be paused and resumed, to no effect", () => {
  const consumer = new Kafka({ brokers: ["localhost:1"], logLevel: logLevel.NOTHING }).consumer({
    groupId: "readers",
  });
  const partitions = [{ topic: "clicks", partitions: [0] }];
  expect(() => consumer.resume(partitions)).toThrow(/not initialized/);
  expect(() => whileJoined(() => consumer.pause(partitions))).not.toThrow();
  expect(() => whileJoined(() => consumer.resume(partitions))).not.toThrow();
  const broken = () => {
    throw new TypeError("something else");
  };
  expect(() => whileJoined(broken)).toThrow("something else");
});
