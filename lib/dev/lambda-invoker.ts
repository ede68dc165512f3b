/** Invokes a deployed function through Lambda's API, at AWS or at an endpoint like LocalStack's. */
import { MillpondError } from "../errors.js";
import type { Invoker } from "./event-source-mapping.js";

/** A function runs for at most 15 minutes. */
const REQUEST_MS_MAX = 15 * 60_000;
const CONNECT_MS_MAX = 5_000;

/**
 * Endpoint, region and credentials are those of the AWS SDK's own environment variables.
 * @throws MillpondError INPUT (from the invoker) when the function fails or is not reached
 * @example const invoke = await lambdaInvoker("millpond-activity-processor");
 */
export async function lambdaInvoker(functionName: string): Promise<Invoker> {
  const { InvokeCommand, LambdaClient } = await import("@aws-sdk/client-lambda");
  const client = new LambdaClient({
    // An invocation that timed out may still run: the mapping decides what comes next.
    maxAttempts: 1,
    requestHandler: { connectionTimeout: CONNECT_MS_MAX, requestTimeout: REQUEST_MS_MAX },
  });
  return async (event) => {
    const failed = (found: string, cause?: unknown) =>
      new MillpondError(
        "INPUT",
        `function ${functionName} failed: ${found}; its records are tried again`,
        { cause },
      );
    const Payload = Buffer.from(JSON.stringify(event));
    const command = new InvokeCommand({ FunctionName: functionName, Payload });
    const answer = await client.send(command).catch((cause: unknown) => {
      throw failed(String(cause), cause);
    });
    const text = Buffer.from(answer.Payload ?? []).toString("utf8");
    if (answer.FunctionError !== undefined) throw failed(`${answer.FunctionError} ${text}`);
    return text === "" ? null : parsed(text);
  };
}

function parsed(text: string): unknown {
  return JSON.parse(text);
}
