/** `--set <name=value>` of the commands that load a pipeline. */
import { InvalidArgumentError } from "commander";

export function setting(
  value: string,
  before: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  const at = value.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("expected <name>=<value>.");
  return new Map([...before, [value.slice(0, at), value.slice(at + 1)]]);
}
