/** The store contract over DynamoDB and S3, as an emulator plays them. */
import { afterAll, beforeAll, describe } from "vitest";
import { openStores } from "../../lib/stores/open-stores.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { CLIENTS, describeStores } from "./stores.js";

const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;

describe.skipIf(missing !== null)(title, () => {
  let aws: Ministack;
  beforeAll(async () => {
    aws = await startMinistack();
    Object.assign(process.env, aws.env);
  });
  afterAll(() => aws.stop());

  describeStores("DynamoDB and S3", async () => {
    const env = { ...(await makeAwsResources(aws.env)), MILLPOND_PREFIX: "some/prefix/" };
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => openStores(env)));
    return {
      checkpoints: clients.map(({ checkpoints }) => checkpoints),
      objects: clients.map(({ objects }) => objects),
      cleanup: async () => {},
    };
  });
});
