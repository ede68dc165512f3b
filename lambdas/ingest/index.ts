/** The ingest Lambda: entry point only. */
import pipeline from "millpond-pipeline";
import { makeIngest } from "../../lib/handlers/ingest.js";

export const handler = makeIngest({ pipeline });
