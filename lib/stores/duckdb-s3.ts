/**
 * How DuckDB gets at S3: the extension, and a secret made of what the AWS SDK would use itself
 * (credentials, region, endpoint). The secret is in memory only, and never part of a message.
 */
import { MillpondError } from "../errors.js";
import type { FileAccess } from "../sinks/database-snapshot.js";
import { quoteText } from "../sinks/duckdb-types.js";
import { extensionDirectory, localHttpfs } from "./duckdb-extension.js";
import { s3Client } from "./s3.js";

/**
 * `scope` ("s3://bucket/prefix") bounds where the credentials are used. Throws
 * `MillpondError("STORAGE")` when there is no extension, no region, or no credentials.
 *
 * @example
 * const access = await duckdbS3Access(process.env, "s3://my-bucket");
 * for (const sql of access.statements) await connection.run(sql);
 */
export async function duckdbS3Access(env: NodeJS.ProcessEnv, scope: string): Promise<FileAccess> {
  const directory = await localHttpfs(extensionDirectory(env));
  const { config } = s3Client();
  const [credentials, region] = await Promise.all([config.credentials(), config.region()]).catch(
    (cause: unknown) => {
      throw new MillpondError(
        "STORAGE",
        "cannot read S3: found no AWS credentials or no region; give them as for the AWS CLI " +
          "(a profile, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION)",
        { cause },
      );
    },
  );
  const { accessKeyId, secretAccessKey, sessionToken, expiration } = credentials;
  const options = {
    SCOPE: quoteText(scope),
    KEY_ID: quoteText(accessKeyId),
    SECRET: quoteText(secretAccessKey),
    ...(sessionToken === undefined ? {} : { SESSION_TOKEN: quoteText(sessionToken) }),
    REGION: quoteText(region),
    ...endpointOptions(env),
  };
  const list = Object.entries(options).map(([name, value]) => `${name} ${value}`);
  return {
    extensionDirectory: directory,
    statements: [
      "SET allow_persistent_secrets = false",
      "LOAD httpfs",
      `CREATE SECRET millpond (TYPE s3, ${list.join(", ")})`,
    ],
    expiresAtMs: expiration?.getTime() ?? null,
  };
}

function endpointOptions(env: NodeJS.ProcessEnv): Record<string, string> {
  const endpoint = env.AWS_ENDPOINT_URL_S3 ?? env.AWS_ENDPOINT_URL;
  if (endpoint === undefined || endpoint === "") return {};
  const { protocol, host } = new URL(endpoint);
  return {
    ENDPOINT: quoteText(host),
    USE_SSL: String(protocol === "https:"),
    URL_STYLE: quoteText("path"),
  };
}
