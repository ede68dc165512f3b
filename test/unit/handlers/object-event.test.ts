/** Every way in which Lambda hears of new objects. */
import { expect, it } from "vitest";
import { newObjects } from "../../../lib/sources/objects/object-event.js";

const s3 = (key: string) => ({
  eventSource: "aws:s3",
  eventName: "ObjectCreated:Put",
  s3: { bucket: { name: "b" }, object: { key, eTag: "1", sequencer: "0" } },
});
const sqs = (body: unknown) => ({ eventSource: "aws:sqs", body: JSON.stringify(body) });
const bridge = (key: string) => ({
  "detail-type": "Object Created",
  source: "aws.s3",
  detail: { bucket: { name: "b" }, object: { key } },
});

it("reads S3's own notifications, whose keys are written as in a URL", () => {
  const event = { Records: [s3("incoming/c/a+b%2B%C3%A4.json"), s3("x"), s3("x")] };
  expect(newObjects(event)).toEqual([
    { bucket: "b", key: "incoming/c/a b+ä.json" },
    { bucket: "b", key: "x" },
  ]);
});

it("reads EventBridge's, whose keys are as they are", () => {
  expect(newObjects(bridge("a+b%20.json"))).toEqual([{ bucket: "b", key: "a+b%20.json" }]);
});

it("reads both inside messages of SQS", () => {
  const event = { Records: [sqs({ Records: [s3("one")] }), sqs(bridge("two"))] };
  expect(newObjects(event).map(({ key }) => key)).toEqual(["one", "two"]);
});

it("takes S3's test message for what it is", () => {
  expect(newObjects({ Records: [sqs({ Event: "s3:TestEvent", Bucket: "b" })] })).toEqual([]);
});

it.each([
  null,
  {},
  { Records: [{}] },
  { Records: [s3("%zz")] },
  { Records: [{ eventSource: "aws:sqs", body: "no json" }] },
  { Records: [sqs({ Records: [sqs({ Records: [sqs({ Records: [] })] })] })] },
  { "detail-type": "Object Created", detail: {} },
])("refuses %j", (event) => {
  expect(() => newObjects(event)).toThrow(/names no new object/);
});
