// How boxes, the tensors between them and the overview look.
// Draws what is on the screen; `all`: everything, for printing.
function draw(all = Boolean(graph.before)) {
  if (graph.root.hidden && !all) return;
  const { x, y, k } = graph.at;
  const { w, h } = screen();
  graph.stage.setAttribute("transform", `translate(${x} ${y}) scale(${k})`);
  const far = k < FAR && !all;
  if (far !== graph.far) {
    graph.far = far;
    erase();
  }
  graph.svg.classList.toggle("far", far);
  graph.svg.classList.toggle("dim", graph.lit !== null);
  const seen = { left: -x / k - MARGIN, top: -y / k - MARGIN, right: (w - x) / k + MARGIN, bottom: (h - y) / k + MARGIN };
  const keep = new Set();
  for (const id of graph.placed.keys()) {
    const box = rect(id);
    if (!all && (box.x > seen.right || box.x + WIDE < seen.left || box.y > seen.bottom || box.y + box.h < seen.top)) continue;
    keep.add("b" + id);
    if (!graph.drawn.has("b" + id)) {
      const part = boxPart(id, box, far);
      graph.drawn.set("b" + id, part);
      graph.boxes.append(part);
    }
  }
  for (const line of graph.lines) {
    const [a, b] = [rect(line.source), rect(line.target)];
    const route = graph.routes.get(line.index);
    const xs = route ? route.map((p) => p.x) : [a.x, a.x + WIDE, b.x, b.x + WIDE];
    if (!all && (Math.min(...xs) > seen.right || Math.max(...xs) < seen.left)) continue;
    if (!all && (a.y > seen.bottom || b.y + HIGH < seen.top)) continue;
    const key = "l" + line.index;
    keep.add(key);
    if (!graph.drawn.has(key)) {
      const part = linePart(line, a, b, far);
      graph.drawn.set(key, part);
      graph.edges.append(part);
    }
  }
  for (const [key, part] of graph.drawn) {
    if (!keep.has(key)) { part.remove(); graph.drawn.delete(key); }
  }
  drawMap();
}

// Findings of a box that the shown view has, and whether the repair removed others.
function findingsOf(id) {
  const all = (FOUND.get(id) || []).map((index) => DATA.findings[index]);
  return { open: all.filter((item) => isOpen(item, graph.side)), gone: all.filter((item) => !isOpen(item, graph.side)) };
}

function boxPart(id, box, far) {
  const own = BOXES.get(id)[graph.side];
  const shown = boxOf(id);
  const { open, gone } = own ? findingsOf(id) : { open: [], gone: [] };
  const classes = ["box", tint(shown.precision), own ? "" : "absent", shown.end ? "end" : "",
    open.length ? "found" : "", id === graph.chosen ? "chosen" : "", graph.lit && graph.lit.has(id) ? "lit" : ""];
  const part = svg("g", { class: classes.join(" "), transform: `translate(${box.x} ${box.y})`, "data-box": id });
  if (far) {
    part.append(svg("rect", { class: "body", width: WIDE, height: box.h, rx: 6 }));
    if (open.length) part.append(svg("circle", { class: "spot", cx: WIDE / 2, cy: box.h / 2, r: 34 }));
    return part;
  }
  for (const [level, group] of shown.groups.slice(0, 2).entries()) {
    const out = 4 + 4 * level;
    part.append(svg("rect", { class: "group g" + group % GROUPS, x: -out, y: -out, width: WIDE + 2 * out, height: box.h + 2 * out, rx: 9 }));
  }
  part.append(svg("rect", { class: "body", width: WIDE, height: box.h, rx: 6 }));
  if (!shown.end) part.append(svg("path", { class: "band", d: `M6 0H6A6 6 0 0 0 0 6V${box.h - 6}A6 6 0 0 0 6 ${box.h}z` }));
  const precision = shown.precision || "";
  const left = shown.end ? 12 : 14;
  part.append(svg("text", { class: "name", x: left, y: 20 }, fitted(shown.title, "600 12.5px", WIDE - left - 12 - (precision ? 8 * precision.length : 0))));
  part.append(svg("text", { class: "kind", x: left, y: 37 }, words(shown, WIDE - left - (shown.nodes.length > 1 ? 30 : 8))));
  if (precision) part.append(svg("text", { class: "precision", x: WIDE - 8, y: 20, "text-anchor": "end" }, precision));
  if (shown.nodes.length > 1) {
    const sign = graph.open.has(id) ? "−" : "+";
    part.append(svg("g", { class: "fold", "data-fold": id, role: "button", "aria-label": "Open or fold" },
      svg("rect", { x: WIDE - 25, y: 27, width: 19, height: 16, rx: 4 }),
      svg("text", { x: WIDE - 15.5, y: 39, "text-anchor": "middle" }, sign)));
  }
  const engine = engineOf(graph.side);
  if (shown.bytes && engine) {
    part.append(svg("rect", { class: "cost", x: 6, y: HIGH - 4, width: Math.max(1.5, (WIDE - 12) * shown.bytes / dearestKernel(engine)), height: 3, rx: 1 }));
  }
  if (graph.open.has(id)) shown.nodes.forEach((node, row) => part.append(rowPart(node, row)));
  if (changes(id).length) part.append(svg("circle", { class: "differs", cx: WIDE, cy: 0, r: 4.5 }, svg("title", {}, "changed")));
  if (open.length) part.append(badge(open));
  else if (gone.length) part.append(svg("g", { class: "badge gone" }, svg("circle", { cx: 2, cy: 2, r: 9 }), svg("text", { x: 2, y: 6, "text-anchor": "middle" }, "✓")));
  shown.groups.slice(0, 2).forEach((group, place) => part.append(svg("g", { class: "tag g" + group % GROUPS, "data-group": group },
    svg("rect", { x: WIDE - 30 - 36 * place, y: box.h - 3, width: 32, height: 14, rx: 7 }),
    svg("text", { x: WIDE - 14 - 36 * place, y: box.h + 8, "text-anchor": "middle" }, "G" + (group + 1)))));
  part.append(svg("title", {}, [shown.name, ...open.map((item) => item.code + " " + item.message)].join("\n")));
  return part;
}

function dearestKernel(engine) {
  engine.most ??= Math.max(1, ...engine.kernels.map((kernel) => kernel.bytes));
  return engine.most;
}

// The second line of a box: what it is, and the shape of its result.
function words(box, room) {
  const ops = [box.op, ...box.also].map((op) => op.replace(/Normalization$/, "Norm"));
  const every = ops.join(" + ");
  if (ops.length > 2 && width(every, "11.5px") <= room) return every;
  const what = ops.slice(0, 2).join(" + ") + (ops.length > 2 ? " + " + (ops.length - 2) : "");
  const both = what + " · " + box.shape.replaceAll(" × ", "×");
  return box.shape && width(both, "11.5px") <= room ? both : fitted(what, "11.5px", room, true);
}

function badge(items) {
  const bad = items.some((item) => item.severity === "error");
  return svg("g", { class: "badge" + (bad ? " error" : "") },
    svg("path", { d: "M2 -10L13 9H-9z" }),
    svg("text", { x: 2, y: 6, "text-anchor": "middle" }, items.length > 1 ? String(items.length) : "!"));
}

function rowPart(node, row) {
  const y = HIGH + row * ROW + 4;
  const text = (node.op === "QuantizeLinear" ? "Q" : node.op === "DequantizeLinear" ? "DQ" : node.op) + (node.detail ? "  " + node.detail : "");
  return svg("g", { class: "row " + node.role },
    svg("rect", { x: 10, y, width: WIDE - 18, height: ROW - 3, rx: 3 }),
    svg("text", { x: 15, y: y + 12 }, fitted(text, node.role === "folded" ? "11px" : "700 11px", WIDE - 28, true)),
    svg("title", {}, `${node.op} ${node.name}\n${node.detail}`));
}

// What differs between the two graphs at a box, in words and chips.
function changes(id) {
  const [a, b] = BOXES.get(id);
  if (DATA.views.length < 2) return [];
  if (!a || !b) return ["only " + DATA.views[a ? 0 : 1].title];
  const precision = (box) => chip(box.precision || "no kernel", tint(box.precision));
  const found = a.precision === b.precision ? [] : [[precision(a), " → ", precision(b)]];
  for (const [title, those] of [["outputs", (pair) => pair.kind === "activation"], ["constants", (pair) => pair.kind !== "activation"]]) {
    const [before, after] = [a.pairs.filter(those).length, b.pairs.filter(those).length];
    if (before !== after) found.push(`pairs of its ${title}: ${before} → ${after}`);
  }
  const scales = b.pairs.filter((pair) => pair.was !== null).length;
  if (scales) found.push(scales > 1 ? `${scales} other scales` : "another scale");
  return found;
}

function linePart(line, a, b, far) {
  const here = line.at[graph.side];
  const shown = here.length ? here : line.at.find((side) => side.length);
  const fused = shown.every((edge) => edge.fused);
  const precision = shown.map((edge) => edge.precision).find(Boolean) || (shown.some((edge) => edge.quantized) ? "INT8" : "");
  const kind = fused ? "none" : tint(precision);
  const points = path(line, a, b);
  const near = graph.chosen === line.source || graph.chosen === line.target;
  const part = svg("g", { class: ["line", kind, fused ? "fused" : "", here.length ? "" : "absent", near ? "near" : "",
    graph.lit && graph.lit.has(line.source) && graph.lit.has(line.target) ? "lit" : ""].join(" ") });
  part.append(svg("path", { d: points.d, "marker-end": far ? null : `url(#head-${kind})` }));
  const said = shown.map((edge) => `${edge.tensor}\n${edge.shape} ${edge.precision}${edge.quantized ? ", through a pair" : ""}`
    + (edge.scale === null ? "" : `, scale ${figure(edge.scale)}`));
  part.append(svg("title", {}, said.join("\n")));
  const reformats = [...new Set(shown.flatMap((edge) => edge.reformats))];
  if (reformats.length && !far && here.length) {
    const engine = engineOf(graph.side);
    const causes = [...new Set(reformats.map((index) => engine.kernels[index].cause))].join(", ");
    const wide = 74 + 7 * causes.length;
    const spot = points.middle;
    part.append(svg("g", { class: "reformat", "data-reformat": reformats[0] },
      svg("rect", { x: spot.x - wide / 2, y: spot.y - 8, width: wide, height: 16, rx: 3 }),
      svg("text", { x: spot.x, y: spot.y + 4, "text-anchor": "middle" }, "REFORMAT " + causes)));
  }
  return part;
}

// The path of a line, and where its label is. The ends are at the boxes, which may be open.
function path(line, a, b) {
  const route = graph.routes.get(line.index);
  if (!route) {
    const [x1, y1, x2, y2] = [a.x + WIDE / 2, a.y + a.h, b.x + WIDE / 2, b.y];
    const bend = Math.max(24, Math.min(120, Math.abs(y2 - y1) / 2));
    return { d: `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`, middle: { x: (x1 + x2) / 2, y: y1 + Math.min(20, (y2 - y1) / 2) } };
  }
  const points = route.map((point, index) => ({
    x: point.x,
    y: index === 0 ? a.y + a.h : index === route.length - 1 ? b.y : point.y + shift(point.y),
  }));
  let d = `M${points[0].x} ${points[0].y}`;
  for (let i = 1; i < points.length - 1; i += 1) {
    const [from, at, to] = [points[i - 1], points[i], points[i + 1]];
    const r = Math.min(7, Math.hypot(at.x - from.x, at.y - from.y) / 2, Math.hypot(to.x - at.x, to.y - at.y) / 2);
    const p = toward(at, from, r);
    const q = toward(at, to, r);
    d += `L${p.x} ${p.y}Q${at.x} ${at.y} ${q.x} ${q.y}`;
  }
  const last = points[points.length - 1];
  const before = points[points.length - 2];
  return { d: d + `L${last.x} ${last.y}`, middle: { x: last.x, y: Math.max(before.y + (last.y - before.y) / 2, last.y - 20) } };
}

function toward(point, other, distance) {
  const length = Math.hypot(other.x - point.x, other.y - point.y) || 1;
  return { x: point.x + (other.x - point.x) * distance / length, y: point.y + (other.y - point.y) * distance / length };
}

function drawMap() {
  const canvas = graph.map;
  const [w, h] = [canvas.clientWidth, canvas.clientHeight];
  if (!w || !h) return;
  const dense = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(w * dense)) canvas.width = Math.round(w * dense);
  if (canvas.height !== Math.round(h * dense)) canvas.height = Math.round(h * dense);
  const pen = canvas.getContext("2d");
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, w, h);
  const style = getComputedStyle(document.documentElement);
  const paint = (name) => style.getPropertyValue("--" + name).trim();
  const colours = { int8: paint("int8"), fp16: paint("fp16"), fp32: paint("fp32"), none: paint("line") };
  const { left, top, right, bottom } = graph.whole;
  const [sx, sy] = [(w - 8) / (right - left), (h - 8) / (bottom - top)];
  graph.scale = { sx, sy };
  const spots = [];
  for (const id of graph.placed.keys()) {
    const box = rect(id);
    const shown = boxOf(id);
    pen.fillStyle = colours[tint(shown.precision)];
    const [px, py] = [4 + (box.x - left) * sx, 4 + (box.y - top) * sy];
    pen.fillRect(px, py, Math.max(3, WIDE * sx), Math.max(1.5, Math.min(7, box.h * sy)));
    if (id === graph.chosen || (graph.lit && graph.lit.has(id)) || (BOXES.get(id)[graph.side] && findingsOf(id).open.length)) spots.push([id, px + WIDE * sx / 2, py]);
  }
  for (const [id, px, py] of spots) {
    pen.fillStyle = id === graph.chosen ? paint("accent") : paint("bad");
    pen.beginPath();
    pen.arc(px, py + 1, id === graph.chosen ? 4 : 2.6, 0, 7);
    pen.fill();
  }
  const size = screen();
  pen.strokeStyle = paint("accent");
  pen.lineWidth = 1.5;
  const [vx, vy] = [4 + (-graph.at.x / graph.at.k - left) * sx, 4 + (-graph.at.y / graph.at.k - top) * sy];
  const [vw, vh] = [Math.max(5, size.w / graph.at.k * sx), Math.max(5, size.h / graph.at.k * sy)];
  const [x0, y0] = [Math.max(1, vx), Math.max(1, vy)];
  pen.strokeRect(x0, y0, Math.max(4, Math.min(w - 1, vx + vw) - x0), Math.max(4, Math.min(h - 1, vy + vh) - y0));
}
