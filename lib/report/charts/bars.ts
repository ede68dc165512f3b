/** Bars with their names and numbers, as a table: readable at any width, and read out as one. */
import { numberText, percentText } from "../format.js";
import { type Html, html } from "../html.js";

export interface Bar {
  readonly name: string;
  readonly value: number;
  /** Drawn in another colour: what somebody should look at. */
  readonly warns?: boolean;
}

/**
 * @example
 * bars({ label: "Flights by origin", columns: { name: "origin", value: "flights" }, rows })
 */
export function bars(options: {
  readonly label: string;
  readonly columns: { readonly name: string; readonly value: string };
  readonly rows: readonly Bar[];
  /** Each bar's share of their sum beside its number. */
  readonly hasShares?: boolean;
}): Html {
  const { label, columns, rows, hasShares = false } = options;
  const sizes = rows.map(({ value }) => (Number.isFinite(value) ? Math.abs(value) : 0));
  const max = Math.max(...sizes, Number.MIN_VALUE);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const share = (size: number) => (hasShares ? html`<td>${percentText(size, total)}</td>` : null);
  return html`<table class="bars"><caption>${label}</caption><thead><tr>
<th scope="col">${columns.name}</th><td></td><th scope="col">${columns.value}</th>
${hasShares ? html`<th scope="col">share</th>` : null}</tr></thead><tbody>
${rows.map(
  ({ name, value, warns }, index) => html`<tr><th scope="row" title="${name}">${name}</th>
<td aria-hidden="true"><svg class="bar${warns ? " warns" : ""}" width="100%" height="14"><rect
 width="${barWidth(sizes[index]!, max)}" height="14" rx="2"/></svg></td>
<td>${Number.isNaN(value) ? "null" : numberText(value)}</td>${share(sizes[index]!)}</tr>`,
)}</tbody></table>`;
}

/** Of a whole number of tenths; what is not zero can be seen. */
function barWidth(size: number, max: number): string {
  return size === 0 ? "0" : `${Math.max(0.4, (100 * size) / max).toFixed(1)}%`;
}
