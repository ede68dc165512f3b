/** Texts of AWS Secrets Manager. What they hold is for who asks for them. */
import { MillpondError } from "../errors.js";

/**
 * Empty for a secret of bytes.
 *
 * @throws MillpondError INPUT when it cannot be read
 * @example const login = JSON.parse(await secretText(env.MILLPOND_KAFKA_SECRET_ARN));
 */
export async function secretText(secretArn: string): Promise<string> {
  const { GetSecretValueCommand, SecretsManagerClient } = await import(
    "@aws-sdk/client-secrets-manager"
  );
  const client = new SecretsManagerClient({});
  try {
    const { SecretString } = await client.send(new GetSecretValueCommand({ SecretId: secretArn }));
    return SecretString ?? "";
  } catch (cause) {
    throw new MillpondError(
      "INPUT",
      `secret ${secretArn} cannot be read: ${String(cause)}. Check the ARN, and that ` +
        "secretsmanager:GetSecretValue is allowed",
      { cause },
    );
  } finally {
    client.destroy();
  }
}
