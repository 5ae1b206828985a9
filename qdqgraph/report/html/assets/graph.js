// The graph: folded boxes that open, the tensors between them, pan, zoom, and an overview beside it.
const GROUPS = 8; // colours of groups
const FAR = 0.34; // below this zoom, boxes are without text
const MARGIN = 60;

const graph = {
  side: Math.max(0, DATA.views.length - 1),
  at: { x: 0, y: 0, k: 1 }, // where the graph's origin is on the screen, and the zoom
  placed: new Map(),
  routes: new Map(),
  lines: [],
  steps: [],
  open: new Set(),
  chosen: null,
  lit: null, // boxes that are lit up, while the others are dim
  drawn: new Map(),
  far: false,
};

function ids() {
  return [...BOXES.keys()];
}

// The box in the shown view; where it is not in it, the one of the other view.
function boxOf(id) {
  const sides = BOXES.get(id);
  return sides[graph.side] || sides.find(Boolean);
}

function startGraph(root) {
  graph.lines = lines();
  graph.root = root;
  graph.edges = svg("g", { class: "lines" });
  graph.boxes = svg("g", { class: "boxes" });
  graph.stage = svg("g", {}, graph.edges, graph.boxes);
  const heads = ["int8", "fp16", "fp32", "none"].map((kind) => svg("marker", {
    id: "head-" + kind, class: "head " + kind, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7,
    orient: "auto", markerUnits: "userSpaceOnUse",
  }, svg("path", { d: "M0 0L8 4L0 8z" })));
  graph.svg = svg("svg", { class: "canvas", tabindex: 0, role: "application", "aria-label": "Graph of layers" },
    svg("defs", {}, heads), graph.stage);
  graph.map = el("canvas", { class: "map", "aria-hidden": "true", title: "Overview: click or drag" });
  graph.panel = el("aside", { id: "panel", "aria-label": "Details", hidden: true });
  root.append(
    el("div", { class: "desk" }, graph.map, el("div", { class: "view" }, tools(), graph.svg, legend()), graph.panel));
  place(quickLayout(ids(), graph.lines));
  listen();
  new ResizeObserver(() => draw()).observe(graph.svg);
  document.body.dataset.layout = "quick";
  elkLayout(ids(), graph.lines).then((found) => {
    document.body.dataset.layout = "elk";
    if (graph.before) {
      place(found);
      printGraph(true);
      return;
    }
    const anchor = graph.chosen ?? nearest();
    const before = anchor === null ? null : onScreen(anchor);
    place(found);
    if (!graph.touched || before === null) home();
    else {
      const after = onScreen(anchor);
      graph.at.x += before.x - after.x;
      graph.at.y += before.y - after.y;
      redraw();
    }
  }, () => { document.body.dataset.layout = "none"; });
}

function place(found) {
  graph.placed = found.placed;
  graph.routes = found.routes;
  graph.lines.forEach((line, index) => { line.index = index; });
  erase();
  bounds();
}

// Removes what is drawn, so that it is drawn anew.
function erase() {
  for (const part of graph.drawn.values()) part.remove();
  graph.drawn.clear();
}

function bounds() {
  graph.steps = steps();
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const id of graph.placed.keys()) {
    const box = rect(id);
    left = Math.min(left, box.x);
    top = Math.min(top, box.y);
    right = Math.max(right, box.x + WIDE);
    bottom = Math.max(bottom, box.y + box.h);
  }
  graph.whole = Number.isFinite(left) ? { left, top, right, bottom } : { left: 0, top: 0, right: 1, bottom: 1 };
}

// Where open boxes end, from the top, and how much further down everything below them is.
function steps() {
  const ends = [...graph.open].map((id) => ({ y: graph.placed.get(id).y + HIGH, more: opened(id) })).sort((a, b) => a.y - b.y);
  let sum = 0;
  for (const end of ends) { sum += end.more; end.sum = sum; }
  return ends;
}

// How much further down a point is because boxes above it are open.
function shift(y) {
  let [low, high] = [0, graph.steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (graph.steps[middle].y <= y + 0.5) low = middle + 1;
    else high = middle;
  }
  return low ? graph.steps[low - 1].sum : 0;
}

function opened(id) {
  return boxOf(id).nodes.length * ROW + 10;
}

function rect(id) {
  const spot = graph.placed.get(id);
  return { x: spot.x, y: spot.y + shift(spot.y), h: HIGH + (graph.open.has(id) ? opened(id) : 0) };
}

function onScreen(id) {
  const box = rect(id);
  return { x: graph.at.x + box.x * graph.at.k, y: graph.at.y + box.y * graph.at.k };
}

function screen() {
  return { w: graph.svg.clientWidth || 800, h: graph.svg.clientHeight || 600 };
}

// The box next to the middle of the screen; null if there is none.
function nearest() {
  const { w, h } = screen();
  let [best, least] = [null, Infinity];
  for (const id of graph.placed.keys()) {
    const spot = onScreen(id);
    const far = (spot.x + WIDE * graph.at.k / 2 - w / 2) ** 2 + (spot.y - h / 2) ** 2;
    if (far < least) [best, least] = [id, far];
  }
  return best;
}

// The first sight: all of a small graph; of a large one the dearest finding, or the beginning.
function home() {
  const { w, h } = screen();
  const { left, top, right, bottom } = graph.whole;
  const all = Math.min((w - 40) / (right - left), (h - 40) / (bottom - top));
  if (all > 0.55) { fit(); return; }
  const any = PLACED.find((index) => isOpen(DATA.findings[index], graph.side)) ?? PLACED[0];
  graph.at.k = 0.85;
  if (any !== undefined) centre(DATA.findings[any].box);
  else graph.at.x = w / 2 - (left + right) / 2 * graph.at.k;
  const highest = 60 - top * graph.at.k; // no empty space above the graph
  graph.at.y = any === undefined ? highest : Math.min(highest, graph.at.y);
  redraw();
}

function fit() {
  const { w, h } = screen();
  const { left, top, right, bottom } = graph.whole;
  const k = Math.max(0.02, Math.min(1.1, (w - 40) / (right - left), (h - 40) / (bottom - top)));
  graph.at = { k, x: w / 2 - (left + right) / 2 * k, y: h / 2 - (top + bottom) / 2 * k };
  redraw();
}

function centre(id, least = 0) {
  const { w, h } = screen();
  const box = rect(id);
  graph.at.k = Math.max(graph.at.k, least);
  graph.at.x = w / 2 - (box.x + WIDE / 2) * graph.at.k;
  graph.at.y = h / 2 - (box.y + Math.min(box.h, 120) / 2) * graph.at.k;
  redraw();
}

function zoom(factor, x, y) {
  const { w, h } = screen();
  const [px, py] = [x ?? w / 2, y ?? h / 2];
  const k = Math.min(3, Math.max(0.02, graph.at.k * factor));
  graph.at.x = px - (px - graph.at.x) * k / graph.at.k;
  graph.at.y = py - (py - graph.at.y) * k / graph.at.k;
  graph.at.k = k;
  graph.touched = true;
  redraw();
}

let pending = 0;
function redraw() {
  if (pending) return;
  pending = requestAnimationFrame(() => { pending = 0; draw(); });
}

function fresh() {
  erase();
  bounds();
  redraw();
}
