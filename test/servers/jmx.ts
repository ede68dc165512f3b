/** The Prometheus JMX exporter, as a Java agent that a test's broker is started with. */
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { copyJars, freePort, installed } from "./cache.js";

const VERSION = "1.0.1";
const POM = fileURLToPath(new URL("jmx/pom.xml", import.meta.url));
/** What users give it too. */
const CONFIG = fileURLToPath(new URL("../../monitoring/jmx/kafka.yml", import.meta.url));

export interface JmxAgent {
  /** For the JVM that is watched. */
  readonly flag: string;
  /** `host:port` of its metrics. */
  readonly address: string;
}

/** Null when it can be used; otherwise why this machine can't. Needs `mvn`. */
export async function setUpJmx(): Promise<string | null> {
  try {
    await jar();
    return null;
  } catch (error) {
    return `mvn and the Prometheus JMX exporter ${VERSION} are not to be had: ${String(error)}`;
  }
}

async function jar(): Promise<string> {
  const dir = await installed(`jmx-${VERSION}`, (to) => copyJars(POM, to));
  return path.join(dir, `jmx_prometheus_javaagent-${VERSION}.jar`);
}

/**
 * @example
 * const jmx = await jmxAgent();
 * const kafka = await startKafka({ jvmFlags: [jmx.flag] });
 */
export async function jmxAgent(): Promise<JmxAgent> {
  const address = `127.0.0.1:${await freePort()}`;
  return { flag: `-javaagent:${await jar()}=${address}:${CONFIG}`, address };
}
