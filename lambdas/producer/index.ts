/** The producer Lambda: entry point only. */
import pipeline from "millpond-pipeline";
import { makeProducer } from "../../lib/handlers/producer.js";

export const handler = makeProducer({ pipeline });
