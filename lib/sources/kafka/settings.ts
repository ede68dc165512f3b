/** Where Kafka is and how to log in, by environment variables; MSK's brokers are asked for. */
import { MillpondError } from "../../errors.js";
import { secretText } from "../../stores/secrets.js";

export type KafkaAuth =
  | { readonly kind: "plaintext" }
  | { readonly kind: "tls" }
  /** MSK's IAM access control, by the AWS credentials of this process. */
  | { readonly kind: "iam"; readonly region: string }
  /** SCRAM-SHA-512 with the user and password in a secret of Secrets Manager. */
  | { readonly kind: "scram"; login(): Promise<KafkaLogin> };

export interface KafkaLogin {
  readonly username: string;
  readonly password: string;
}

export interface KafkaSettings {
  /** `host:port`, … */
  readonly brokers: readonly string[];
  readonly auth: KafkaAuth;
}

type Env = Readonly<Record<string, string | undefined>>;

const AUTH_KINDS = ["iam", "plaintext", "tls", "scram"] as const;
type AuthKind = (typeof AUTH_KINDS)[number];

/**
 * Reads MILLPOND_BOOTSTRAP or MILLPOND_CLUSTER_ARN, and MILLPOND_KAFKA_AUTH (`iam`, `tls`, `scram`
 * with MILLPOND_KAFKA_SECRET_ARN, or `plaintext`, the default without a cluster).
 * @throws MillpondError USAGE when a variable is missing or wrong
 * @example await kafkaSettings({ MILLPOND_BOOTSTRAP: "localhost:9092" })
 */
export async function kafkaSettings(env: Env): Promise<KafkaSettings> {
  const kind = authKind(env);
  return { brokers: await bootstrapBrokers(env), auth: authOf(kind, env) };
}

function authKind(env: Env): AuthKind {
  const fallback = env.MILLPOND_CLUSTER_ARN === undefined ? "plaintext" : "iam";
  const found = env.MILLPOND_KAFKA_AUTH ?? fallback;
  const kind = AUTH_KINDS.find((known) => known === found);
  if (kind !== undefined) return kind;
  throw new MillpondError(
    "USAGE",
    `MILLPOND_KAFKA_AUTH is "${found}": give one of ${AUTH_KINDS.join(", ")}`,
  );
}

function authOf(kind: AuthKind, env: Env): KafkaAuth {
  if (kind === "iam") {
    // A cluster's ARN names its region, which need not be this function's.
    const region = env.MILLPOND_CLUSTER_ARN?.split(":")[3] ?? env.AWS_REGION;
    if (region !== undefined && region !== "") return { kind, region };
    throw new MillpondError("USAGE", "MILLPOND_KAFKA_AUTH is iam: set AWS_REGION to its region");
  }
  if (kind !== "scram") return { kind };
  const secretArn = env.MILLPOND_KAFKA_SECRET_ARN;
  if (secretArn === undefined) {
    throw new MillpondError(
      "USAGE",
      "MILLPOND_KAFKA_AUTH is scram: set MILLPOND_KAFKA_SECRET_ARN to the secret that holds " +
        '{"username": …, "password": …}',
    );
  }
  return { kind, login: () => readSecret(secretArn) };
}

/**
 * The brokers of MILLPOND_BOOTSTRAP, else those that MSK names for the cluster
 * MILLPOND_CLUSTER_ARN and the login in use.
 */
export async function bootstrapBrokers(env: Env): Promise<readonly string[]> {
  const given = env.MILLPOND_BOOTSTRAP;
  if (given !== undefined) return parseBrokers("MILLPOND_BOOTSTRAP", given);
  const cluster = env.MILLPOND_CLUSTER_ARN;
  if (cluster === undefined) {
    throw new MillpondError(
      "USAGE",
      "no Kafka brokers: set MILLPOND_BOOTSTRAP to host:port,… or MILLPOND_CLUSTER_ARN",
    );
  }
  return askMsk(cluster, authKind(env));
}

async function askMsk(cluster: string, kind: AuthKind): Promise<readonly string[]> {
  const { GetBootstrapBrokersCommand, KafkaClient } = await import("@aws-sdk/client-kafka");
  const region = cluster.split(":")[3];
  const client = new KafkaClient(region === undefined || region === "" ? {} : { region });
  try {
    const found = await client.send(new GetBootstrapBrokersCommand({ ClusterArn: cluster }));
    const brokers = {
      iam: found.BootstrapBrokerStringSaslIam,
      tls: found.BootstrapBrokerStringTls,
      scram: found.BootstrapBrokerStringSaslScram,
      plaintext: found.BootstrapBrokerString,
    }[kind];
    if (brokers !== undefined && brokers !== "") return parseBrokers("MSK's answer", brokers);
  } catch (cause) {
    throw new MillpondError(
      "INPUT",
      `MSK did not name the brokers of ${cluster}: ${String(cause)}. Check the ARN, and that ` +
        "kafka:GetBootstrapBrokers is allowed",
      { cause },
    );
  } finally {
    client.destroy();
  }
  throw new MillpondError(
    "INPUT",
    `${cluster} has no brokers for MILLPOND_KAFKA_AUTH "${kind}": enable that login on the ` +
      "cluster, or choose another",
  );
}

/** "host:port,host:port" as a list. */
export function parseBrokers(where: string, text: string): readonly string[] {
  const brokers = text.split(",").map((broker) => broker.trim());
  const wrong = brokers.find((broker) => !/^[^\s:,]+:\d{1,5}$/.test(broker));
  if (wrong === undefined) return brokers;
  throw new MillpondError("USAGE", `${where}: "${wrong}" is no broker; give host:port,host:port`);
}

async function readSecret(secretArn: string): Promise<KafkaLogin> {
  const login = parseLogin(await secretText(secretArn));
  if (login !== null) return login;
  throw new MillpondError(
    "INPUT",
    `secret ${secretArn} does not hold {"username": "…", "password": "…"}: store it like MSK's`,
  );
}

/** Null when it is no login; errors of the parser would quote the secret. */
function parseLogin(text: string): KafkaLogin | null {
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found !== "object" || found === null) return null;
    if (!("username" in found && "password" in found)) return null;
    const { username, password } = found;
    if (typeof username !== "string" || typeof password !== "string") return null;
    return { username, password };
  } catch {
    return null;
  }
}
