/** The little that the report does by itself: numbers under the pointer, and copying SQL. */
export const SCRIPT = `
const tip = document.getElementById("tip");
let cursor = null;
function hide() {
  if (cursor !== null) cursor.setAttribute("width", "0");
  cursor = null;
  tip.hidden = true;
}
function show(event) {
  const plot = event.target instanceof Element ? event.target.closest("svg[data-tips]") : null;
  if (plot === null) return hide();
  const { left, width } = plot.getBoundingClientRect();
  const tips = plot.dataset.tips.split("\\n");
  const at = Math.floor(((event.clientX - left) / width) * tips.length);
  const [time, ...values] = (tips[at] ?? "").split("|");
  const names = JSON.parse(plot.dataset.names);
  const lines = values.flatMap((value, index) =>
    value === "" ? [] : [names[index] === "" ? value : names[index] + ": " + value]);
  if (lines.length === 0) return hide();
  const own = plot.querySelector(".cursor");
  if (own !== cursor) hide();
  cursor = own;
  cursor.setAttribute("x", (100 * at) / tips.length + "%");
  cursor.setAttribute("width", 100 / tips.length + "%");
  tip.textContent = [time, ...lines].join("\\n");
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const right = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const above = event.clientY - box.height - 12;
  tip.style.left = Math.max(8, right) + "px";
  tip.style.top = (above < 8 ? event.clientY + 18 : above) + "px";
}
document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
document.addEventListener("scroll", hide, { passive: true });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
`;
