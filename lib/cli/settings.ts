/** `--set <name=value>` of the commands that load a pipeline. */
import { InvalidArgumentError, Option } from "commander";

export function setOption(description = "override a parameter that the pipeline declares"): Option {
  return new Option("--set <name=value>", description)
    .argParser(setting)
    .default(new Map(), "none");
}

function setting(value: string, before: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const at = value.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("expected <name>=<value>.");
  return new Map([...before, [value.slice(0, at), value.slice(at + 1)]]);
}
