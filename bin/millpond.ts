#!/usr/bin/env node
/** The command line's entry point; everything else is in `lib/cli`. */
import "../lib/cli/v8-flags.js";
import { main } from "../lib/cli/main.js";

await main(process.argv);
