/** The processor Lambda: entry point only. */
import pipeline from "millpond-pipeline";
import { makeProcessor } from "../../lib/handlers/processor.js";

export const handler = makeProcessor({ pipeline });
