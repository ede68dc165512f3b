/**
 * A real Apache Kafka for tests: its jars from Maven Central in a cache, one broker process per
 * call on ports of its own. Needs `java` and `mvn`; what tests do with the broker is theirs.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { Kafka, logLevel } from "kafkajs";
import { copyJars, installed, missingOf, run } from "./cache.js";
import { startServer, stopServer } from "./process.js";

const VERSION = "4.4.0";
const HERE = fileURLToPath(new URL("kafka", import.meta.url));
const CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg";

/** The user that the broker's SASL listener knows (SCRAM-SHA-512). */
export const SCRAM_USER = { username: "millpond", password: "only-for-tests" } as const;

export interface TestKafka {
  /** `host:port` of the plain listener. */
  readonly bootstrap: string;
  /** The same broker behind TLS, and behind TLS with SCRAM; `ca` is the PEM file to trust. */
  readonly secure: { readonly tls: string; readonly scram: string; readonly ca: string };
  createTopic(name: string, partitions: number): Promise<void>;
  deleteTopic(name: string): Promise<void>;
  /** SIGKILL; what was written stays for `restart`. */
  kill(): Promise<void>;
  /** Stops the broker if it runs, and starts it again on the same ports and logs. */
  restart(): Promise<void>;
  /** Ends the broker and removes what it wrote. */
  stop(): Promise<void>;
}

/** Null when `startKafka` can be used; otherwise why this machine can't, and what to install. */
export async function setUpKafka(): Promise<string | null> {
  const missing = await missingOf(["java", "mvn"]);
  if (missing !== null) return missing;
  try {
    await home();
    return null;
  } catch (error) {
    return `Kafka ${VERSION} is not to be had from Maven Central: ${String(error)}`;
  }
}

const home = (): Promise<string> => installed(`kafka-${VERSION}`, install);

/** Everything in it is named relative to it, so that it may be moved to where it is kept. */
async function install(dir: string): Promise<void> {
  await copyJars(path.join(HERE, "pom.xml"), path.join(dir, "libs"));
  await makeCertificate(dir);
  const template = path.join(dir, "template");
  const settings = path.join(dir, "format.properties");
  fs.writeFileSync(settings, settingsText({ plain: 1, controller: 2, tls: 3, scram: 4 }, template));
  const { username, password } = SCRAM_USER;
  await run(
    "java",
    [
      ...["-cp", classPath(dir), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID],
      ...["-c", settings, "--add-scram", `SCRAM-SHA-512=[name=${username},password=${password}]`],
    ],
    { cwd: dir },
  );
  // What a broker loads by the time it is ready, for later ones to start in half the time.
  const broker = await Broker.start(dir, [`-XX:ArchiveClassesAtExit=${CLASSES}`]);
  await broker.end();
  await broker.stop();
}

async function makeCertificate(home: string): Promise<void> {
  const store = ["-keystore", "broker.p12", "-storepass", "changeit", "-alias", "broker"];
  const name = ["-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1,dns:localhost"];
  const kind = ["-keyalg", "RSA", "-storetype", "PKCS12", "-validity", "3650"];
  await run("keytool", ["-genkeypair", ...store, ...name, ...kind], { cwd: home });
  await run("keytool", ["-exportcert", "-rfc", ...store, "-file", "ca.pem"], { cwd: home });
}

const classPath = (home: string): string =>
  fs
    .readdirSync(path.join(home, "libs"))
    .sort()
    .map((jar) => `libs/${jar}`)
    .join(path.delimiter);

interface Ports {
  readonly plain: number;
  readonly controller: number;
  readonly tls: number;
  readonly scram: number;
}

function settingsText({ plain, controller, tls, scram }: Ports, logDir: string): string {
  const local = (name: string, port: number) => `${name}://127.0.0.1:${port}`;
  const open = [local("PLAINTEXT", plain), local("SSL", tls), local("SASL_SSL", scram)].join(",");
  const login = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
  const settings = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.quorum.voters": `1@127.0.0.1:${controller}`,
    listeners: `${open},${local("CONTROLLER", controller)}`,
    "advertised.listeners": open,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map":
      "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
    "ssl.keystore.type": "PKCS12",
    "ssl.keystore.location": "broker.p12",
    "ssl.keystore.password": "changeit",
    "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": login,
    "log.dirs": logDir,
    // A killed broker may come back only when its old session has ended.
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    "auto.create.topics.enable": false,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "group.initial.rebalance.delay.ms": 0,
    "log.cleaner.dedupe.buffer.size": 2 * 1024 * 1024,
    "num.network.threads": 1,
    "num.io.threads": 2,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}

const CLASSES = "kafka.jsa";
const ADDRESS_TAKEN = /Address already in use/;
const PORT_TRIES_MAX = 5;

class Broker implements TestKafka {
  private readonly home: string;
  private readonly flags: readonly string[];
  private readonly ports: Ports;
  private readonly dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-kafka-"));
  private child: ChildProcess | null = null;

  private constructor(home: string, flags: readonly string[], ports: Ports) {
    this.home = home;
    this.flags = flags;
    this.ports = ports;
    const logDir = path.join(this.dir, "logs");
    fs.cpSync(path.join(home, "template"), logDir, { recursive: true });
    fs.writeFileSync(path.join(this.dir, "server.properties"), settingsText(ports, logDir));
  }

  static async start(home: string, flags: readonly string[]): Promise<Broker> {
    for (let tries = 1; ; tries++) {
      const broker = new Broker(home, flags, await freePorts());
      try {
        await broker.begin();
        return broker;
      } catch (error) {
        await broker.stop();
        // Between finding a port free and taking it, another process may have taken it.
        if (tries === PORT_TRIES_MAX || !ADDRESS_TAKEN.test(String(error))) throw error;
      }
    }
  }

  get bootstrap(): string {
    return `127.0.0.1:${this.ports.plain}`;
  }

  get secure() {
    const { tls, scram } = this.ports;
    const ca = path.join(this.home, "ca.pem");
    return { tls: `127.0.0.1:${tls}`, scram: `127.0.0.1:${scram}`, ca };
  }

  async createTopic(topic: string, numPartitions: number): Promise<void> {
    const admin = this.client().admin();
    await admin.connect();
    try {
      await admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: true });
    } finally {
      await admin.disconnect();
    }
  }

  async deleteTopic(topic: string): Promise<void> {
    const admin = this.client().admin();
    await admin.connect();
    try {
      await admin.deleteTopics({ topics: [topic] });
    } finally {
      await admin.disconnect();
    }
  }

  async kill(): Promise<void> {
    if (this.child !== null) await stopServer(this.child, "SIGKILL");
  }

  async restart(): Promise<void> {
    if (this.child !== null) await stopServer(this.child);
    await this.begin();
  }

  async stop(): Promise<void> {
    if (this.child !== null) await stopServer(this.child);
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  /** For as long as it takes: writing the archive of classes does. */
  async end(): Promise<void> {
    this.child?.kill("SIGTERM");
    if (this.child?.exitCode === null) await once(this.child, "exit");
  }

  private async begin(): Promise<void> {
    this.child = await startServer({
      name: "Kafka",
      command: "java",
      args: [
        ...["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
        ...["-Xshare:auto", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"],
        ...this.flags,
        ...["-cp", classPath(this.home), "kafka.Kafka", path.join(this.dir, "server.properties")],
      ],
      env: { PATH: process.env.PATH ?? "", ...javaHome() },
      cwd: this.home,
      isReady: () => this.answers(),
    });
  }

  private async answers(): Promise<boolean> {
    const admin = this.client().admin({ retry: { retries: 0 } });
    try {
      await admin.connect();
      await admin.listTopics();
      return true;
    } finally {
      await admin.disconnect();
    }
  }

  private client(): Kafka {
    return new Kafka({ brokers: [this.bootstrap], logLevel: logLevel.NOTHING });
  }
}

function javaHome(): Record<string, string> {
  const { JAVA_HOME } = process.env;
  return JAVA_HOME === undefined ? {} : { JAVA_HOME };
}

/** Below the range that outgoing connections take theirs from, so that a restart finds them. */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;

async function freePorts(): Promise<Ports> {
  const found = new Set<number>();
  while (found.size < 4) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    if (await isFree(port)) found.add(port);
  }
  const [plain, controller, tls, scram] = [...found];
  return { plain: plain!, controller: controller!, tls: tls!, scram: scram! };
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/**
 * A running broker, after `setUpKafka` returned null.
 * @example
 * const kafka = await startKafka();
 * await kafka.createTopic("clicks", 3);
 * await kafka.stop();
 */
export async function startKafka(
  options: { readonly jvmFlags?: readonly string[] } = {},
): Promise<TestKafka> {
  const { jvmFlags = [] } = options;
  return Broker.start(await home(), [`-XX:SharedArchiveFile=${CLASSES}`, ...jvmFlags]);
}
