/** The report as one HTML file: nothing in it is loaded from anywhere, and no other script runs. */
import { createHash } from "node:crypto";
import type { Json } from "../query/values.js";
import type { Answer } from "./answer.js";
import { keyText, timeText } from "./format.js";
import { type Html, html, markup } from "./html.js";
import type { Insight } from "./insights.js";
import type { Panel, Section } from "./panel.js";
import { SCRIPT } from "./script.js";
import { STYLE } from "./style.js";

export interface Tile {
  readonly name: string;
  readonly value: string;
  readonly more: string;
  readonly mood?: "good" | "bad";
}

export interface ReportPage {
  readonly pipeline: string;
  /** What was read, in a sentence. */
  readonly lead: string;
  readonly madeAtMs: number;
  /** As `millpond query` takes it. */
  readonly out: string;
  readonly tiles: readonly Tile[];
  readonly insights: readonly Insight[];
  readonly sections: readonly Section[];
}

export function pageHtml(page: ReportPage): string {
  const { pipeline, sections, insights } = page;
  const title = `${keyText(pipeline)} – Millpond report`;
  const links = [...(insights.length > 0 ? [INSIGHTS] : []), ...sections];
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title><style>${markup(STYLE)}</style></head><body>
<header><p class="kind">Millpond report</p><h1>${pipeline}</h1><p class="lead">${page.lead}</p>
<dl class="tiles">${page.tiles.map(tileHtml)}</dl>
<nav aria-label="Sections"><ul>${links.map(
    ({ id, title }) => html`<li><a href="#${id}">${title}</a></li>`,
  )}</ul></nav></header>
<main>${insights.length > 0 ? insightsHtml(insights) : null}${sections.map(sectionHtml)}</main>
<footer><p>Every number comes from the SQL beside it, which runs in
<code>millpond query --out ${page.out}</code>. Times are UTC.</p>
<p>Made at ${timeText(page.madeAtMs, 1_000)} from what was published by then. Copies of this file
work without anything else.</p></footer>
<div id="tip" role="tooltip" hidden></div><script>${markup(SCRIPT)}</script></body></html>
`.text;
}

/** Scripts and styles by their hash: markup that slipped in could still not do anything. */
function policy(): string {
  const hash = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  return (
    `default-src 'none'; script-src ${hash(SCRIPT)}; style-src ${hash(STYLE)}; ` +
    "base-uri 'none'; form-action 'none'"
  );
}

function tileHtml({ name, value, more, mood }: Tile): Html {
  return html`<div class="tile"><dt>${name}</dt><dd${mood ? html` class="${mood}"` : null}>${value}
<span class="more">${more}</span></dd></div>`;
}

const INSIGHTS = { id: "insights", title: "Insights" };

function insightsHtml(insights: readonly Insight[]): Html {
  return html`<section id="insights" aria-labelledby="insights-h"><h2 id="insights-h">Insights</h2>
<ul class="insights">${insights.map(
    ({ text, of, kind, answer }) => html`<li class="${kind}"><p>${text}</p>
${more(answer, of, html`<span class="of">${of}</span>`)}</li>`,
  )}</ul></section>`;
}

function sectionHtml({ id, title, note, panels }: Section): Html {
  return html`<section id="${id}" aria-labelledby="${id}-h"><h2 id="${id}-h">${title}</h2>
<p class="note">${note}</p><div class="pair">${paired(panels).map((panel) =>
    panelHtml(panel, title),
  )}</div>
</section>`;
}

/** Two panels stand beside each other; one that would stand alone takes the whole width. */
function paired(panels: readonly Panel[]): Panel[] {
  let waiting = false;
  return panels.map((panel, index) => {
    waiting = panel.isWide !== true && !waiting;
    const next = panels[index + 1];
    const isAlone = waiting && (next === undefined || next.isWide === true);
    if (isAlone) waiting = false;
    return isAlone ? { ...panel, isWide: true } : panel;
  });
}

function panelHtml(panel: Panel, section: string): Html {
  const { title, note, answer, body, fold, isWide } = panel;
  const name = `${section}: ${title}`;
  const inside = html`<p class="note">${note}</p>${
    body === null
      ? html`${numbersHtml(answer, name, WIDE_CELL_CHARS_MAX)}${sqlHtml(answer)}`
      : html`${body}${more(answer, name)}`
  }`;
  const style = `card${isWide ? " large" : ""}`;
  if (fold) {
    return html`<div class="${style}"><details class="fold"><summary>${title}</summary>${inside}
</details></div>`;
  }
  return html`<div class="${style}"><h3>${title}</h3>${inside}</div>`;
}

function more(answer: Answer, name: string, before: Html | null = null): Html {
  return html`<div class="more-of">${before}${sqlHtml(answer)}<details><summary>Numbers<span
 class="unseen">
 of ${name}</span></summary>${numbersHtml(answer, name)}</details></div>`;
}

function sqlHtml({ sql }: Answer): Html {
  return html`<details class="sql"><summary>SQL</summary><pre><code>${sql}</code></pre>
<button type="button" class="copy" hidden>Copy</button></details>`;
}

const CELL_CHARS_MAX = 80;
/** Where a table is the picture. */
const WIDE_CELL_CHARS_MAX = 200;
const EXACT = new Intl.NumberFormat("en-US", { maximumFractionDigits: 6 });
const EXPONENT_FROM = 1e15;

function numbersHtml({ columns, rows }: Answer, name: string, charsMax = CELL_CHARS_MAX): Html {
  const kinds = columns.map((_, index) => kindOf(rows.map((row) => row[index] ?? null)));
  return html`<div class="scroll" tabindex="0" role="group" aria-label="Numbers of ${name}">
<table class="numbers"><thead><tr>${columns.map(
    (column, index) => html`<th scope="col" class="${kinds[index]!}">${keyText(column)}</th>`,
  )}</tr></thead><tbody>${rows.map(
    (row) =>
      html`<tr>${row.map((value, index) => cell(value, kinds[index]!, charsMax))}</tr>
`,
  )}</tbody></table></div>`;
}

const TIME = /^[-+]?\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/;

/** Numbers, times, short text, and text that takes several lines. */
type CellKind = "n" | "t" | "s" | "w";
const SHORT_CHARS_MAX = 24;

function kindOf(values: readonly Json[]): CellKind {
  const known = values.filter((value) => value !== null);
  if (known.every((value) => typeof value === "number")) return "n";
  if (known.every((value) => typeof value === "string" && TIME.test(value))) return "t";
  return known.every((value) => String(value).length <= SHORT_CHARS_MAX) ? "s" : "w";
}

function cell(value: Json, kind: CellKind, charsMax: number): Html {
  if (value === null) return html`<td class="${kind} null">null</td>`;
  if (typeof value === "number") {
    const isPlain = value === 0 || (Math.abs(value) >= 1e-4 && Math.abs(value) < EXPONENT_FROM);
    return html`<td class="n">${isPlain ? EXACT.format(value) : String(value)}</td>`;
  }
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (kind === "t") return html`<td class="t">${timeText(Date.parse(text), stepOf(text))}</td>`;
  return html`<td class="${kind}">${keyText(text, charsMax)}</td>`;
}

/** No more digits than say something. */
function stepOf(time: string): number {
  if (!time.endsWith(".000Z")) return 1;
  return time.endsWith(":00.000Z") ? 60_000 : 1_000;
}
