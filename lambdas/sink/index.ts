/** Lambda entry: results from what the processors have committed. */
import pipeline from "millpond-pipeline";
import { makeSink } from "../../lib/handlers/sink.js";

export const handler = makeSink({ pipeline });
