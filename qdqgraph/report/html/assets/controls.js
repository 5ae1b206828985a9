// What the reader does with the graph: buttons, pointer, keys, the choice of a box, printing.
function tools() {
  const button = (text, title, action, name) => el("button", { type: "button", title, class: name, onclick: action, "aria-label": title }, text);
  const parts = [];
  if (DATA.views.length > 1) {
    graph.sides = DATA.views.map((view, side) => button(view.title, `Show the graph ${view.title} (b)`, () => turn(side), "side"));
    parts.push(el("div", { class: "segment", role: "group", "aria-label": "Graphs" }, graph.sides));
  }
  if (PLACED.length) {
    graph.counter = el("span", { class: "counter" }, "findings");
    parts.push(el("div", { class: "segment" }, button("‹", "Previous finding (p)", () => step(-1)), graph.counter, button("›", "Next finding (n)", () => step(1))));
  }
  parts.push(el("div", { class: "segment" }, button("−", "Zoom out (−)", () => zoom(1 / 1.3)), button("+", "Zoom in (+)", () => zoom(1.3)), button("fit", "Fit (f)", () => { graph.touched = true; fit(); })));
  graph.folder = button("open all", "Open or fold all layers", () => {
    const most = ids().filter((id) => boxOf(id).nodes.length > 1);
    if (graph.open.size) graph.open.clear();
    else most.forEach((id) => graph.open.add(id));
    refold();
  }, "folder");
  parts.push(el("div", { class: "segment" }, graph.folder));
  graph.clear = button("show all", "End the highlight (Esc)", () => light(null), "clear");
  graph.clear.hidden = true;
  parts.push(graph.clear);
  return el("div", { class: "tools", role: "toolbar" }, parts);
}

function legend() {
  const key = (kind, text) => el("span", { class: "key" }, el("i", { class: kind }), text);
  return el("details", { class: "legend", open: true }, el("summary", {}, "Legend"),
    el("div", {}, key("swatch int8", "INT8"), key("swatch fp16", "FP16"), key("swatch fp32", "FP32"), key("swatch none", "no kernel of its own")),
    el("div", {}, key("stroke int8", "read as INT8"), key("stroke fp32", "read as float"), key("stroke fused", "inside one kernel")),
    el("div", {}, DATA.findings.length ? key("sign warn", "finding") : null, DATA.views.length > 1 ? [DATA.findings.length ? key("sign gone", "repaired") : null, key("sign differs", "changed")] : null,
      key("sign loud", "reformat kernel"), DATA.views.some((view) => view.groups.length) ? key("sign tied", "tied scales") : null, key("sign cost", "bytes of the kernel")));
}

function turn(side) {
  if (side === graph.side || side >= DATA.views.length) return;
  graph.side = side;
  mark();
  fresh();
  if (graph.chosen !== null) showPanel(graph.chosen);
}

function mark() {
  (graph.sides || []).forEach((button, side) => button.setAttribute("aria-pressed", String(side === graph.side)));
  document.body.dataset.side = String(graph.side);
}

let current = -1; // place in PLACED of the finding that was shown last
function step(by) {
  if (!PLACED.length) return;
  current = (current + by + PLACED.length) % PLACED.length;
  showFinding(PLACED[current]);
}

function showFinding(index) {
  const item = DATA.findings[index];
  current = PLACED.indexOf(index);
  open("graph");
  graph.counter.textContent = `${current + 1} / ${PLACED.length}`;
  turn(isOpen(item, DATA.views.length - 1) ? DATA.views.length - 1 : 0);
  choose(item.box, { index });
}

// Shows a box in the graph, in this view if there is a choice.
function showBox(id, side = graph.side) {
  open("graph");
  turn(Math.min(side, DATA.views.length - 1));
  choose(id);
}

// Chooses a box: centres it, and shows its panel.
function choose(id, { index = null, still = false } = {}) {
  graph.chosen = id;
  graph.touched = true;
  if (!graph.root.contains(document.activeElement)) graph.svg.focus({ preventScroll: true });
  if (BOXES.has(id) && !BOXES.get(id)[graph.side]) turn(BOXES.get(id).findIndex(Boolean));
  showPanel(id, index);
  if (!still) centre(id, 0.7);
  fresh();
}

function light(boxes) {
  graph.lit = boxes === null ? null : new Set(boxes);
  graph.clear.hidden = boxes === null;
  fresh();
}

function lightGroup(group) {
  light(DATA.views[graph.side].groups[group]);
}

function unchoose() {
  graph.chosen = null;
  graph.panel.hidden = true;
  fresh();
}

function toggle(id) {
  if (graph.open.has(id)) graph.open.delete(id);
  else if (boxOf(id).nodes.length > 1) graph.open.add(id);
  refold();
}

function refold() {
  graph.folder.textContent = graph.open.size ? "fold all" : "open all";
  fresh();
}

function neighbours(id) {
  const into = graph.lines.filter((line) => line.target === id && line.at[graph.side].length).map((line) => line.source);
  const from = graph.lines.filter((line) => line.source === id && line.at[graph.side].length).map((line) => line.target);
  return { into: [...new Set(into)], from: [...new Set(from)] };
}

// Moves the choice along the graph with an arrow key; without a choice, moves the graph.
function move(key) {
  const steps = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [1, 0], ArrowRight: [-1, 0] };
  if (graph.chosen === null) {
    graph.at.x += 80 * steps[key][0];
    graph.at.y += 80 * steps[key][1];
    graph.touched = true;
    redraw();
    return;
  }
  const { into, from } = neighbours(graph.chosen);
  const byPlace = (list) => [...list].sort((a, b) => Math.abs(rect(a).x - rect(graph.chosen).x) - Math.abs(rect(b).x - rect(graph.chosen).x));
  if (key === "ArrowUp" && into.length) choose(byPlace(into)[0]);
  if (key === "ArrowDown" && from.length) choose(byPlace(from)[0]);
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const here = graph.placed.get(graph.chosen);
    const way = key === "ArrowLeft" ? -1 : 1;
    const row = ids().filter((id) => Math.abs(graph.placed.get(id).y - here.y) < HIGH && (graph.placed.get(id).x - here.x) * way > 1);
    row.sort((a, b) => (graph.placed.get(a).x - graph.placed.get(b).x) * way);
    if (row.length) choose(row[0]);
  }
}

function listen() {
  let from = null;
  graph.svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const area = graph.svg.getBoundingClientRect();
    graph.touched = true;
    if (event.ctrlKey || event.metaKey || Math.abs(event.deltaY) > Math.abs(event.deltaX) * 3 && !event.shiftKey) {
      zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - area.left, event.clientY - area.top);
    } else {
      graph.at.x -= event.deltaX + (event.shiftKey ? event.deltaY : 0);
      redraw();
    }
  }, { passive: false });
  graph.svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = { x: event.clientX, y: event.clientY, at: { ...graph.at }, moved: false };
  });
  graph.svg.addEventListener("pointermove", (event) => {
    if (!from || !(event.buttons & 1)) return;
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    if (!from.moved && Math.hypot(dx, dy) < 4) return;
    if (!from.moved) graph.svg.setPointerCapture(event.pointerId);
    from.moved = true;
    graph.touched = true;
    graph.svg.classList.add("dragged");
    graph.at.x = from.at.x + dx;
    graph.at.y = from.at.y + dy;
    redraw();
  });
  graph.svg.addEventListener("pointerup", () => { graph.svg.classList.remove("dragged"); });
  graph.svg.addEventListener("click", (event) => {
    if (from && from.moved) return;
    const hit = (name) => event.target.closest(`[data-${name}]`);
    if (hit("fold")) toggle(Number(hit("fold").dataset.fold));
    else if (hit("group")) lightGroup(Number(hit("group").dataset.group));
    else if (hit("reformat")) showKernel(graph.side, Number(hit("reformat").dataset.reformat));
    else if (hit("box")) choose(Number(hit("box").dataset.box), { still: true });
    else if (graph.lit) light(null);
    else unchoose();
  });
  graph.svg.addEventListener("dblclick", (event) => {
    const hit = event.target.closest("[data-box]");
    if (hit && !event.target.closest("[data-fold]")) toggle(Number(hit.dataset.box));
  });
  const jump = (event) => {
    if (!(event.buttons & 1)) return;
    const area = graph.map.getBoundingClientRect();
    const { w, h } = screen();
    const x = (event.clientX - area.left - 4) / graph.scale.sx + graph.whole.left;
    const y = (event.clientY - area.top - 4) / graph.scale.sy + graph.whole.top;
    graph.at.x = w / 2 - x * graph.at.k;
    graph.at.y = h / 2 - y * graph.at.k;
    graph.touched = true;
    redraw();
  };
  graph.map.addEventListener("pointerdown", (event) => { graph.map.setPointerCapture(event.pointerId); jump(event); });
  graph.map.addEventListener("pointermove", jump);
}

// For printing, draws the whole graph into the size of the page; afterwards, what was on the screen.
function printGraph(begin) {
  if (begin) {
    const { left, top, right, bottom } = graph.whole;
    graph.svg.setAttribute("viewBox", `${left - 20} ${top - 20} ${right - left + 40} ${bottom - top + 40}`);
    graph.before = graph.before || graph.at;
    graph.at = { x: 0, y: 0, k: 1 };
    draw();
  } else if (graph.before) {
    graph.svg.removeAttribute("viewBox");
    graph.at = graph.before;
    graph.before = null;
    fresh();
  }
}
