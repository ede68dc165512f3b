/** Lambda entry: read-only SQL over the results. */
import { makeQuery } from "../../lib/handlers/query.js";

export const handler = makeQuery();
