/** The report's style sheet: light, dark and print; from phones to desks. */
export const STYLE = `
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #16202c; --soft: #51606f; --line: #dde3ea;
  --grid: #e6ebf0; --accent: #0b62ac; --code: #f1f4f7; --good: #0a6b4f; --bad: #b3261e;
  --c0: #0b6bb8; --c1: #d07a00; --c2: #00876c; --c3: #a8558f; --c4: #4a9ad4; --c5: #b8432f;
  --others: #98a4b0; --warn: #c2410c; }
@media (prefers-color-scheme: dark) { :root {
  --page: #0f151c; --card: #18212b; --ink: #e7edf3; --soft: #a3b1bf; --line: #2b3743;
  --grid: #263340; --accent: #7cbcf3; --code: #101820; --good: #5fd3ae; --bad: #ff8f85;
  --c0: #4ba3e3; --c1: #f0a93b; --c2: #36c29c; --c3: #dc8fc4; --c4: #a5d3f3; --c5: #f07f68;
  --others: #74828f; --warn: #fb8a57; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans",
    "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
.kind { margin: 0; color: var(--soft); font-size: 14px; }
h1 { margin: 0 0 4px; font-size: 34px; line-height: 1.15; letter-spacing: -0.02em;
  overflow-wrap: anywhere; }
.lead { margin: 0; color: var(--soft); max-width: 70ch; }
h2 { margin: 0; font-size: 23px; line-height: 1.25; letter-spacing: -0.01em;
  overflow-wrap: anywhere; }
h3 { margin: 0; font-size: 16px; line-height: 1.35; }
section { margin-top: 44px; scroll-margin-top: 12px; }
.note { margin: 2px 0 0; color: var(--soft); font-size: 14px; max-width: 80ch; }
nav { margin-top: 24px; }
nav ul { display: flex; flex-wrap: wrap; gap: 6px 8px; margin: 0; padding: 0; list-style: none; }
a { color: var(--accent); }
nav a { display: block; padding: 4px 12px; border: 1px solid var(--line); border-radius: 99px;
  background: var(--card); font-size: 14px; text-decoration: none; overflow-wrap: anywhere; }
nav a:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 24px 0 0; }
.tile { padding: 14px 16px; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); min-width: 0; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 2px 0 0; font-size: 24px; line-height: 1.2; font-weight: 650;
  letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.tile .more { display: block; color: var(--soft); font-size: 13px; font-weight: 400;
  letter-spacing: 0; line-height: 1.4; margin-top: 2px; }
.good { color: var(--good); } .bad { color: var(--bad); }
.card { margin-top: 16px; padding: 20px; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); min-width: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr));
  gap: 0 16px; align-items: stretch; }
.pair > .large { grid-column: 1 / -1; }
.insights { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr));
  gap: 10px 16px; margin: 16px 0 0; padding: 0; list-style: none; }
.insights > li { padding: 12px 16px; border: 1px solid var(--line);
  border-left: 4px solid var(--c0);
  background: var(--card); border-radius: 8px; overflow-wrap: anywhere; min-width: 0; }
.insights > li.quality { border-left-color: var(--others); }
.insights > li.warns { border-left-color: var(--warn); }
.insights p { margin: 0; }
.insights .more-of { margin-top: 6px; } .insights details { margin-top: 0; }
.of { color: var(--soft); font-size: 14px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(280px, 100%), 1fr));
  gap: 20px 28px; margin-top: 12px; }
.charts > .large { grid-column: 1 / -1; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 14px; font-weight: 600; overflow-wrap: anywhere; }
.chart svg { display: block; overflow: visible; }
.grid { stroke: var(--grid); stroke-width: 1; } .grid.zero { stroke: var(--others); }
.tick { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.mid { text-anchor: middle; } .end { text-anchor: end; }
.line { fill: none; stroke-width: 1.75; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
.cursor { fill: var(--ink); fill-opacity: 0.1; pointer-events: none; }
.chart:not(.large) :is(.between, .long) { display: none; }
.area.s-0 { fill: var(--c0); } .line.s-0 { stroke: var(--c0); }
.area.s-1 { fill: var(--c1); } .line.s-1 { stroke: var(--c1); }
.area.s-2 { fill: var(--c2); } .line.s-2 { stroke: var(--c2); }
.area.s-3 { fill: var(--c3); } .line.s-3 { stroke: var(--c3); }
.area.s-4 { fill: var(--c4); } .line.s-4 { stroke: var(--c4); }
.area.s-5 { fill: var(--c5); } .line.s-5 { stroke: var(--c5); }
.area.s-late { fill: var(--warn); }
.area.s-others { fill: var(--others); } .line.s-others { stroke: var(--others); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 4px 0 0; padding: 0;
  list-style: none; color: var(--soft); font-size: 13px; }
strong { unicode-bidi: isolate; }
.legend li { display: flex; gap: 6px; align-items: baseline; max-width: 100%;
  overflow-wrap: anywhere; unicode-bidi: isolate; }
.swatch { flex: none; }
.plot { display: flex; gap: 8px; margin-top: 4px; }
.plot > svg:last-child { flex: 1 1 0; min-width: 0; } .ticks { flex: none; }
.bars { width: 100%; margin-top: 12px; border-collapse: collapse; table-layout: fixed;
  font-size: 14px; font-variant-numeric: tabular-nums; }
.bars caption, .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.bars th, .bars td { padding: 3px 0; font-weight: 400; text-align: right; }
.bars thead th { color: var(--soft); font-size: 12px; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
.bars th:first-child { width: 34%; padding-right: 10px; text-align: left; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis; unicode-bidi: isolate; }
.bars th:nth-child(3), .bars td:nth-child(3) { width: 92px; padding-left: 10px; }
.bars th:nth-child(4), .bars td:nth-child(4) { width: 66px; color: var(--soft); font-size: 13px; }
.large .bars th:first-child { width: 22%; }
.bar { display: block; fill: var(--c0); } .bar.warns { fill: var(--warn); }
details { margin-top: 10px; }
details.fold { margin-top: 0; }
summary { color: var(--accent); font-size: 14px; cursor: pointer; width: fit-content; }
.fold > summary { color: var(--ink); font-size: 16px; font-weight: 600; width: auto; }
.more-of { display: flex; flex-wrap: wrap; gap: 0 20px; }
.more-of > details { min-width: 0; } .more-of > details[open] { flex: 1 0 100%; }
.sql { position: relative; }
pre { margin: 6px 0 0; padding: 12px 14px; border: 1px solid var(--line); border-radius: 8px;
  background: var(--code); overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono",
    monospace; }
button { margin-top: 6px; padding: 3px 12px; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); color: var(--accent); font: inherit; font-size: 13px; cursor: pointer; }
.scroll { margin-top: 8px; overflow: auto; max-height: 420px; border: 1px solid var(--line);
  border-radius: 8px; }
.numbers { border-collapse: collapse; width: 100%; font-size: 13px;
  font-variant-numeric: tabular-nums; }
.numbers th, .numbers td { padding: 5px 12px; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; max-width: 46ch; overflow-wrap: anywhere;
  unicode-bidi: isolate; }
.numbers th { position: sticky; top: 0; background: var(--code); color: var(--soft);
  font-weight: 600; white-space: nowrap; }
.numbers tr:last-child td { border-bottom: 0; }
.numbers .n { text-align: right; white-space: nowrap; overflow-wrap: normal; }
.numbers .t { white-space: nowrap; } .null { color: var(--soft); font-style: italic; }
.numbers .s { overflow-wrap: normal; } .numbers .w { min-width: 26ch; }
#tip { position: fixed; z-index: 1; padding: 7px 10px; border-radius: 6px; pointer-events: none;
  background: var(--ink); color: var(--card); font-size: 13px; line-height: 1.4;
  white-space: pre-line; max-width: 300px; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
footer { margin-top: 56px; padding-top: 20px; padding-bottom: 48px; color: var(--soft);
  font-size: 14px; }
footer p { margin: 0 0 8px; max-width: 80ch; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: 0.92em; overflow-wrap: anywhere; }
@media (max-width: 600px) {
  main, header, footer { padding-left: 14px; padding-right: 14px; }
  header { padding-top: 24px; } h1 { font-size: 28px; } h2 { font-size: 20px; }
  section { margin-top: 34px; } .card { padding: 14px; }
  .bars th:first-child { white-space: normal; overflow-wrap: anywhere; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; } .tile { padding: 10px 12px; }
  .tile dd { font-size: 20px; } .tile:last-child:nth-child(odd) { grid-column: 1 / -1; }
  .between { display: none; } .large .bars th:first-child { width: 34%; }
  .bars th:nth-child(3), .bars td:nth-child(3) { width: 74px; }
  .bars th:nth-child(4), .bars td:nth-child(4) { width: 58px; }
}
@media print {
  :root { --page: #fff; } body { font-size: 11pt; } nav, button, #tip { display: none; }
  .card, .tile, .insights > li { break-inside: avoid; } section { margin-top: 24px; }
  svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
