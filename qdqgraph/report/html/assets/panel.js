// The panel of the chosen box.
function showPanel(id, index = null) {
  const box = boxOf(id);
  const { open: now, gone } = findingsOf(id);
  const kernel = kernelOf(box, graph.side);
  const { into, from } = neighbours(id);
  const parts = [
    el("header", {},
      el("div", {}, el("h2", {}, box.title), el("p", { class: "full" }, box.name)),
      el("button", { type: "button", class: "close", title: "Close (Esc)", "aria-label": "Close", onclick: unchoose }, "×")),
    el("p", { class: "chips" }, chip(box.op, "op"), box.also.map((op) => chip(op, "op")),
      box.precision ? chip(box.precision, tint(box.precision)) : null,
      box.shape ? el("span", { class: "shape" }, box.shape) : null),
  ];
  const changed = changes(id);
  if (changed.length) parts.push(el("p", { class: "change" }, "Changed: ", changed.map((text, place) => [place ? "; " : "", text])));
  for (const item of [...now, ...gone]) parts.push(findingCard(item, DATA.findings.indexOf(item) === index));
  if (box.facts.length) parts.push(el("h3", {}, "Measured"), el("dl", { class: "facts" }, box.facts.map((fact) => [el("dt", {}, fact.label), el("dd", { class: fact.tone }, fact.value)])));
  if (kernel) parts.push(el("h3", {}, "Kernel, by forecast"), kernelCard(kernel));
  const engine = engineOf(graph.side);
  if (box.reformats.length) parts.push(el("h3", {}, "Reformats of its outputs"));
  for (const number of box.reformats) parts.push(kernelCard(engine.kernels[number]));
  const quantized = box.pairs.filter((pair) => pair.kind === "activation");
  const stored = box.pairs.filter((pair) => pair.kind !== "activation");
  if (quantized.length) parts.push(el("h3", {}, "Scales of its outputs"), quantized.map(scaleCard));
  if (stored.length) parts.push(el("h3", {}, "Scales of its constants"), stored.map(scaleCard));
  const links = (list) => el("ul", { class: "links" }, list.map((near) => el("li", {}, el("button", { type: "button", class: "link", onclick: () => choose(near) }, boxOf(near).title), el("span", {}, boxOf(near).op))));
  if (into.length) parts.push(el("h3", {}, "Reads from"), links(into));
  if (from.length) parts.push(el("h3", {}, "Read by"), links(from));
  if (box.nodes.length) {
    parts.push(el("h3", {}, `ONNX nodes (${box.nodes.length})`), el("ol", { class: "nodes" }, box.nodes.map((node) =>
      el("li", { class: node.role }, el("b", {}, node.op), " ", el("span", {}, node.name), node.detail ? el("small", {}, node.detail) : null))));
  }
  graph.panel.replaceChildren(...parts.flat().filter((part) => part !== null));
  graph.panel.hidden = false;
  graph.panel.scrollTop = 0;
  draw();
}

function findingCard(item, chosen) {
  const index = DATA.findings.indexOf(item);
  const rule = RULES.get(item.code);
  return el("article", { class: ["finding", item.severity, item.state, chosen ? "chosen" : ""].join(" ") },
    el("h3", {}, chip(item.code, item.severity), " ", item.name, el("span", { class: "state" }, STATES[item.state])),
    el("p", {}, item.message),
    item.help && item.help !== item.why ? el("p", { class: "do" }, item.help) : null,
    item.why ? el("p", { class: "do" }, el("b", {}, "Left: "), item.why) : null,
    el("p", { class: "costs" },
      item.bytes ? el("span", {}, `costs ${whole(item.bytes)} bytes a run`) : null,
      item.bits !== null ? el("span", {}, `loses ${item.bits.toFixed(2)} bits`) : null,
      el("button", { type: "button", class: "link", onclick: () => reveal("findings", "finding-" + index) }, "in the table"),
      item.boxes.length > 1 ? el("button", { type: "button", class: "link", onclick: () => light(item.boxes) }, `its ${item.boxes.length} layers`) : null,
      el("button", { type: "button", class: "link", onclick: () => light(DATA.findings.filter((each) => each.code === item.code && each.box !== null).map((each) => each.box)) }, `all ${item.code}`)),
    rule ? ruleDetails(rule) : null);
}

function ruleDetails(rule) {
  return el("details", { class: "rule" }, el("summary", {}, "Why, and when not"),
    el("p", {}, rule.summary),
    rule.why ? el("p", {}, el("b", {}, "Why. "), linked(rule.why)) : null,
    rule.when_not ? el("p", {}, el("b", {}, "When not. "), linked(rule.when_not)) : null,
    rule.source ? el("p", { class: "source" }, el("b", {}, "Source. "), linked(rule.source)) : null,
    el("p", { class: "source" }, `qdqgraph explain ${rule.code} · ${rule.page}`));
}

function kernelCard(kernel) {
  const engine = engineOf(graph.side);
  const number = engine.kernels.indexOf(kernel);
  return el("div", { class: "kernel" + (kernel.cause ? " loud" : "") },
    kernel.cause ? el("p", {}, el("b", {}, "REFORMAT " + kernel.cause)) : null,
    el("p", { class: "mono" }, kernel.title),
    el("p", {}, `${kernel.reads || "?"} → ${kernel.writes || "?"}`, ` · ${whole(kernel.bytes)} bytes`, kernel.ms === null ? "" : ` · ${kernel.ms.toFixed(3)} ms`, " ",
      el("button", { type: "button", class: "link", onclick: () => showKernel(graph.side, number) }, "in the list of kernels")),
    reasons(kernel));
}

function scaleCard(pair) {
  const group = pair.group === null ? null : el("button", { type: "button", class: "tag g" + pair.group % GROUPS, title: "Show the layers that share this scale", onclick: () => lightGroup(pair.group) }, "G" + (pair.group + 1));
  const facts = [];
  if (pair.scale !== null) facts.push(["scale", figure(pair.scale)]);
  if (pair.scales !== null) facts.push(["scales", `${pair.scales[0]}: ${figure(pair.scales[1])} to ${figure(pair.scales[3])}, median ${figure(pair.scales[2])}`]);
  if (pair.range !== null) facts.push(["range", `${figure(pair.range[0])} to ${figure(pair.range[1])}`]);
  if (pair.was !== null) facts.push(["before", figure(pair.was)]);
  if (pair.bits !== null) facts.push(["bits lost", pair.bits.toFixed(2)]);
  if (pair.method) facts.push(["chosen by", pair.method]);
  facts.push(["integers", (pair.integers || "?") + (pair.zero ? `, zero-point ${pair.zero}` : "")]);
  if (pair.shape) facts.push(["shape", pair.shape]);
  return el("div", { class: "scale" }, el("p", { class: "mono" }, pair.tensor, " ", group), el("dl", { class: "facts" }, facts.map(([label, value]) => [el("dt", {}, label), el("dd", {}, value)])),
    pair.values ? histogram(pair.values, pair.range || []) : null);
}

// The values of a tensor on the data, with the range that its scale represents; heights are logarithmic.
function histogram(values, range) {
  const [w, h] = [320, 56];
  const last = values.start + values.width * values.counts.length;
  const [low, high] = [Math.min(values.start, ...range), Math.max(last, ...range)];
  const x = (value) => w * (value - low) / (high - low);
  const most = Math.log1p(Math.max(...values.counts));
  const bars = values.counts.map((count, place) => {
    const tall = h * Math.log1p(count) / most;
    return svg("rect", { x: x(values.start + place * values.width), y: h - tall, width: Math.max(0.6, x(low + values.width) - 0.4), height: tall });
  });
  const ends = range.map((end) => svg("path", { class: "bound", d: `M${x(end)} 0V${h}` }));
  const text = `on the data: ${figure(values.low)} to ${figure(values.high)}` + (range.length ? "; dashed: the range" : "");
  return el("figure", {}, svg("svg", { viewBox: `-1 0 ${w + 2} ${h}`, class: "histogram", role: "img", "aria-label": "Histogram" }, bars, ends), el("figcaption", {}, text));
}
