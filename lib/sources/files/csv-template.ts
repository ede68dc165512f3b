/** From a CSV header and the stream's fields: how a row is written as one JSON object. */
import type { FieldNode } from "../../define/definition.js";
import type { CsvValue } from "./csv-rows.js";

type Write = (value: CsvValue) => string;

/** `{"a":` value `,"b":{"c":` value `}}`: literals and columns alternate, one literal more. */
export interface CsvTemplate {
  readonly literals: readonly string[];
  readonly columns: readonly { readonly index: number; readonly write: Write }[];
}

interface Leaf {
  readonly index: number;
  readonly write: Write;
}
type Tree = Map<string, Tree | Leaf>;

/**
 * A column `payload.temp` that equals a field's path joined by dots is nested. What is wrong with
 * the header comes back as text.
 */
export function csvTemplate(
  header: readonly string[],
  fields: readonly FieldNode[],
): CsvTemplate | string {
  const byPath = new Map(fields.map((field) => [field.path.join("."), field]));
  const root: Tree = new Map();
  for (const [index, name] of header.entries()) {
    if (name === "") return `column ${index + 1} has no name`;
    const field = byPath.get(name);
    const path = field?.path ?? [name];
    if (!insert(root, path, { index, write: writerFor(field) })) {
      return `column ${index + 1}, "${name}", sets a key that another column sets too`;
    }
  }
  const literals = [""];
  const columns: Leaf[] = [];
  flatten(root, literals, columns);
  return { literals, columns };
}

export function renderRow(template: CsvTemplate, values: readonly CsvValue[]): string {
  let json = template.literals[0] ?? "";
  for (const [i, column] of template.columns.entries()) {
    const value = values[column.index];
    json +=
      value === undefined || (value.text === "" && !value.quoted) ? "null" : column.write(value);
    json += template.literals[i + 1];
  }
  return json;
}

function insert(root: Tree, path: readonly string[], leaf: Leaf): boolean {
  let tree = root;
  for (const [depth, key] of path.entries()) {
    const present = tree.get(key);
    if (depth === path.length - 1) {
      if (present !== undefined) return false;
      tree.set(key, leaf);
    } else if (present === undefined) {
      const child: Tree = new Map();
      tree.set(key, child);
      tree = child;
    } else if (present instanceof Map) {
      tree = present;
    } else {
      return false;
    }
  }
  return true;
}

function flatten(tree: Tree, literals: string[], columns: Leaf[]): void {
  const append = (text: string) => literals.push((literals.pop() ?? "") + text);
  let separator = "{";
  for (const [key, node] of tree) {
    append(`${separator}${JSON.stringify(key)}:`);
    separator = ",";
    if (node instanceof Map) {
      flatten(node, literals, columns);
    } else {
      columns.push(node);
      literals.push("");
    }
  }
  append("}");
}

/** JSON's number, with the leading plus and zeros that CSV files have. */
const NUMBER = /^\s*(?:\+|(-))?0*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*$/;

const writeString: Write = (value) => JSON.stringify(value.text);

const writeNumber: Write = (value) => {
  const match = NUMBER.exec(value.text);
  return match === null ? writeString(value) : `${match[1] ?? ""}${match[2]}`;
};

const writeBoolean: Write = (value) => {
  const text = value.text.trim().toLowerCase();
  return text === "true" || text === "false" ? text : writeString(value);
};

/** A list is written as JSON in its cell. */
const writeList: Write = (value) => {
  try {
    return Array.isArray(JSON.parse(value.text)) ? value.text : writeString(value);
  } catch {
    return writeString(value);
  }
};

function writerFor(field: FieldNode | undefined): Write {
  switch (field?.type.kind) {
    case "int":
    case "bigint":
    case "double":
    case "decimal":
      return writeNumber;
    case "boolean":
      return writeBoolean;
    case "timestamp":
      return field.format === undefined || field.format.kind === "iso" ? writeString : writeNumber;
    case "list":
      return writeList;
    default:
      return writeString;
  }
}
