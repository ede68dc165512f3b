/** A query function's answer that does not come, or not to its end. */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { queryEndpoint } from "../../../lib/cli/query-endpoint.js";

Object.assign(process.env, { AWS_ACCESS_KEY_ID: "none", AWS_SECRET_ACCESS_KEY: "none" });

async function ask(answer: (response: ServerResponse) => void, timeout: number): Promise<unknown> {
  const server = createServer((_, response) => answer(response)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const endpoint = `http://127.0.0.1:${port}/`;
  const query = { endpoint, region: "eu-west-1", sql: "SELECT 1", limit: 10, timeout };
  try {
    return await queryEndpoint({ ...query, format: "json" });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test.each([
  { what: "nothing comes", answer: () => undefined },
  {
    what: "the body stays away",
    answer: (response: ServerResponse) => response.writeHead(200).flushHeaders(),
  },
])("says that there was no answer in time when $what", async ({ answer }) => {
  await expect(ask(answer, 0.2)).rejects.toMatchObject({
    code: "QUERY",
    message: expect.stringContaining("no answer within 0.2 s"),
  });
});

test("says that the function can't be reached when the answer breaks off", async () => {
  const answer = (response: ServerResponse) => {
    response.writeHead(200, { "content-length": "100" });
    response.write("[", () => response.destroy());
  };
  await expect(ask(answer, 10)).rejects.toMatchObject({ code: "STORAGE" });
});
