#!/usr/bin/env node
/** The command line's entry point; everything else is in `lib/cli`. */
import { main } from "../lib/cli/main.js";

await main(process.argv);
