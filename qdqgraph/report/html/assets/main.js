// The parts of the page, its keys and its theme.
const PARTS = [
  ["summary", "Summary", true, () => startSummary(document.getElementById("overview"))],
  ["graph", "Graph", DATA.views.length > 0, startGraph],
  ["findings", "Findings", DATA.findings.length > 0, startFindings],
  ["engines", "Kernels", DATA.engines !== null, startEngines],
  ["tables", DATA.tables.length ? DATA.tables[0].title : "", DATA.tables.length > 0, startTables],
].filter((part) => part[2]);
const begun = new Set();

// Opens a part of the page; it is built when it is first seen.
function open(name) {
  for (const [part, , , start] of PARTS) {
    const root = document.getElementById(part);
    root.hidden = part !== name;
    document.getElementById("tab-" + part).setAttribute("aria-selected", String(part === name));
    if (part === name) begin(part, start);
  }
  document.body.dataset.part = name;
  if (name !== "graph") return;
  if (!graph.seen) {
    graph.seen = true;
    mark();
    home();
  }
  draw();
}

function begin(part, start) {
  if (begun.has(part)) return;
  begun.add(part);
  start(document.getElementById(part));
}

function startTabs() {
  const tabs = document.getElementById("tabs");
  const counts = { findings: DATA.findings.length };
  PARTS.forEach(([part, title], index) => tabs.append(el("button", { type: "button", role: "tab", id: "tab-" + part, title: `${title} (${index + 1})`, "aria-controls": part, onclick: () => open(part) },
    title, counts[part] ? el("span", { class: "count" }, whole(counts[part])) : null)));
}

const system = matchMedia("(prefers-color-scheme: dark)");

function startTheme() {
  let chosen = null;
  const show = () => {
    document.documentElement.dataset.theme = chosen ?? (system.matches ? "dark" : "light");
    if (begun.has("graph")) redraw();
  };
  try {
    const kept = localStorage.getItem("qdqgraph-theme");
    if (kept === "dark" || kept === "light") chosen = kept;
  } catch { /* a browser may refuse storage to a file: the theme is then that of the system */ }
  document.getElementById("theme").addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("qdqgraph-theme", chosen); } catch { /* as above */ }
    show();
  });
  system.addEventListener("change", show);
  show();
}

function startKeys() {
  const help = document.getElementById("help");
  document.getElementById("keys").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const seen = document.body.dataset.part === "graph";
    const key = event.key;
    if (key === "/") { event.preventDefault(); const field = document.getElementById("search"); field.focus(); field.select(); }
    else if (key === "?") help.showModal();
    else if (key === "t") document.getElementById("theme").click();
    else if (/^[1-9]$/.test(key) && PARTS[key - 1]) open(PARTS[key - 1][0]);
    else if (!DATA.views.length) return;
    else if (key === "n" || key === "p") { open("graph"); step(key === "n" ? 1 : -1); }
    else if (!seen) return;
    else if (key === "Escape") { if (graph.lit) light(null); else unchoose(); }
    else if (key === "+" || key === "=") zoom(1.25);
    else if (key === "-") zoom(0.8);
    else if (key === "f") { graph.touched = true; fit(); }
    else if (key === "b") turn(1 - graph.side);
    else if (key === "Enter" && graph.chosen !== null && !event.target.closest("button, summary, a")) toggle(graph.chosen);
    else if (key.startsWith("Arrow") && !event.target.closest("#panel")) { event.preventDefault(); move(key); }
  });
}

startTheme();
startTabs();
startSearch();
startKeys();
open("summary");
window.addEventListener("beforeprint", () => {
  for (const [part, , , start] of PARTS) begin(part, start);
  if (DATA.views.length) printGraph(true);
});
window.addEventListener("afterprint", () => { if (DATA.views.length) printGraph(false); });
document.body.dataset.ready = "yes";
