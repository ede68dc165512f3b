/** Applies a history to a Kafka sink, to be killed: `<bootstrap> <topic> <count>`. */
import { kafkaSink } from "../../../lib/sinks/kafka.js";
import { ROWS, stream } from "../../contract/sinks-script.js";
import { history } from "./kafka-sink-history.js";

const [MILLPOND_BOOTSTRAP, topic, count] = process.argv.slice(2);
const { publications } = history(Number(count));
const options = { pipeline: "p", topic: topic!, layout: ROWS, keyColumn: null, sourceTopic: "" };
const sink = kafkaSink({ env: { MILLPOND_BOOTSTRAP }, ...options });
console.log("begun");
for (let done = await sink.open(); done < publications.length; done = await sink.open()) {
  try {
    const last = Math.min(publications.length, done + 3);
    await sink.apply(stream(publications.slice(done, last)), last);
  } catch (error) {
    if (!/another process has taken over/.test(String(error))) throw error;
  }
}
await sink.close();
