/** Names of tables and columns: what is allowed, and what the product keeps for itself. */

import { RESERVED_TABLES, type TableNode } from "./definition.js";
import { DefinitionError } from "./definition-error.js";

const COLUMNS_MAX = 1_000;

export function checkName(what: string, name: string): void {
  if (/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name)) return;
  throw new DefinitionError(
    `${what} name "${name}" is not allowed; use letters, digits and _, at most 128, not a ` +
      "digit first",
  );
}

export function checkTableNames(names: readonly string[]): void {
  for (const name of names) {
    checkName("table", name);
    if (RESERVED_TABLES.some((reserved) => reserved === name.toLowerCase())) {
      throw new DefinitionError(`the name "${name}" is the product's own; choose another`, {
        table: name,
      });
    }
  }
  checkUnique("table", names, "in the pipeline");
}

export function checkColumnNames(columns: readonly { readonly name: string }[], where: string) {
  if (columns.length === 0 || columns.length > COLUMNS_MAX) {
    throw new DefinitionError(
      `there are ${columns.length} columns ${where}; 1 to ${COLUMNS_MAX} fit`,
    );
  }
  for (const { name } of columns) {
    checkName("column", name);
    // Those are the names that the audit's SQL gives what it computes on the way.
    if (name.startsWith("__")) {
      throw new DefinitionError(
        `column "${name}" ${where}: names that begin with __ are the product's own; rename it (a ` +
          `field of that name is read by .at("${name}"))`,
        { column: name },
      );
    }
  }
  checkUnique(
    "column",
    columns.map(({ name }) => name),
    where,
  );
}

function checkUnique(what: string, names: readonly string[], where: string): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name.toLowerCase())) {
      throw new DefinitionError(
        `${what} "${name}" is there twice ${where} (upper and lower case count as one); rename one`,
        what === "column" ? { column: name } : {},
      );
    }
    seen.add(name.toLowerCase());
  }
}

/** Refuses result columns that the product adds to this shape itself. */
export function checkResultNames({ shape, columns }: Pick<TableNode, "shape" | "columns">): void {
  const own = ["event_date"];
  if (shape.kind === "rows") own.push("late", "topic", "partition", "offset");
  else if (shape.window.kind === "session") own.push("session_start", "session_end");
  else own.push("window_start", "window_end");
  if (shape.kind !== "rows") own.push("revision", "retracted");
  const clash = columns.find(({ name }) => own.includes(name.toLowerCase()));
  if (clash === undefined) return;
  throw new DefinitionError(
    `column "${clash.name}" clashes with the one that the product adds; rename it`,
    { column: clash.name },
  );
}
