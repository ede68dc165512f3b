/** NDJSON: one record a line. What a line holds is the decoder's business. */
import type { FindEnd } from "./framed-reader.js";

const LF = 10;

export const findLineEnd: FindEnd = (bytes, from) => bytes.indexOf(LF, from);
