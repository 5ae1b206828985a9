// The kernels of one engine, or of two side by side, aligned by the ONNX nodes that they compute.
const MARKS = {
  same: ["", ""], both: ["", "the same reformat"], types: ["types", "other types"], layout: ["layout", "another layout"],
  fused: ["fusion", "fused differently"], gone: ["gone", "reformat gone"], new: ["new", "new reformat"],
  changed: ["changed", "converts something else"], only: ["only", "no counterpart"],
};

function startEngines(root) {
  const engines = DATA.engines;
  const timed = engines.unit === "ms";
  const cost = (kernel) => timed ? kernel.ms || 0 : kernel.bytes;
  const shown = (value) => timed ? value.toFixed(3) + " ms" : size(value);
  const totals = engines.sides.map((side) => timed ? side.ms : side.bytes);
  const most = Math.max(1e-9, ...engines.sides.flatMap((side) => side.kernels.map(cost)));
  const two = engines.sides.length > 1;
  const letters = two ? (DATA.views.length > 1 ? DATA.views.map((view) => view.title) : ["A", "B"]) : [""];
  const head = el("div", { class: "sides" + (two ? " two" : "") }, engines.sides.map((side, number) => sideHead(side, letters[number], timed)));
  let only = false;
  let words = [];
  let order = "run";
  const rows = two ? engines.rows : engines.sides[0].kernels.map((kernel, index) => ({ mark: kernel.cause ? "only" : "same", a: [index], b: [] }));
  const weight = (row) => Math.max(sum(row.a, 0), sum(row.b, 1));
  const change = (row) => Math.abs(sum(row.a, 0) - sum(row.b, 1));
  const sum = (list, side) => list.reduce((so, index) => so + cost(engines.sides[side].kernels[index]), 0);
  const texts = rows.map((row) => [...row.a.map((i) => engines.sides[0].kernels[i]), ...row.b.map((i) => engines.sides[1].kernels[i])]
    .map((kernel) => [kernel.name, kernel.kind, kernel.precision, kernel.cause && "reformat " + kernel.cause, kernel.nodes.join(" ")].join(" ")).join(" ").toLowerCase() + " " + MARKS[row.mark][1]);
  const list = el("div", { class: "kernels" + (two ? " two" : "") });
  const count = el("span", { class: "count" });
  function fill() {
    const chosen = rows.map((_, index) => index).filter((index) => (!only || !["same", "both"].includes(rows[index].mark)) && words.every((word) => texts[index].includes(word)));
    if (order === "cost") chosen.sort((a, b) => weight(rows[b]) - weight(rows[a]));
    if (order === "change") chosen.sort((a, b) => change(rows[b]) - change(rows[a]));
    list.replaceChildren(...chosen.map((index) => kernelRow(rows[index])));
    count.textContent = chosen.length === rows.length ? `${whole(rows.length)} rows` : `${whole(chosen.length)} of ${whole(rows.length)} rows`;
  }
  function kernelRow(row) {
    const delta = sum(row.b, 1) - sum(row.a, 0);
    const mark = two ? el("div", { class: "mark " + row.mark, title: MARKS[row.mark][1] }, MARKS[row.mark][0],
      delta ? el("small", { class: delta < 0 ? "good" : "bad" }, (delta > 0 ? "+" : "−") + shown(Math.abs(delta))) : null) : null;
    return el("div", { class: "kernelrow " + row.mark },
      el("div", { class: "cell" }, row.a.map((index) => kernelCell(0, index))), mark,
      two ? el("div", { class: "cell" }, row.b.map((index) => kernelCell(1, index))) : null);
  }
  function kernelCell(side, index) {
    const kernel = engines.sides[side].kernels[index];
    const share = totals[side] ? cost(kernel) / totals[side] : 0;
    const name = kernel.boxes.length
      ? el("button", { type: "button", class: "link", title: kernel.name, onclick: () => showBox(kernel.boxes[0], side) }, kernel.title)
      : el("span", { title: kernel.name }, kernel.title);
    return el("div", { class: "one " + (kernel.cause ? "reformat" : tint(kernel.precision)), id: `kernel-${side}-${index}` },
      el("div", { class: "top" }, kernel.cause ? chip("REFORMAT " + kernel.cause, "loud") : chip(kernel.precision, tint(kernel.precision)), name),
      el("div", { class: "under" }, el("span", {}, kernel.kind), el("span", {}, `${kernel.reads || "?"} → ${kernel.writes || "?"}`), kernel.shape ? el("span", {}, kernel.shape) : null, kernel.tactic ? el("span", { title: kernel.tactic }, cut(kernel.tactic, 40)) : null),
      el("div", { class: "cost" }, el("b", {}, shown(cost(kernel))), el("span", {}, percent(share)), bar(cost(kernel) / most)),
      kernel.why.length ? el("details", {}, el("summary", {}, [...new Set(kernel.why.map((why) => why.rule))].join(" ")), reasons(kernel)) : null);
  }
  const tick = el("input", { type: "checkbox", onchange: () => { only = tick.checked; fill(); } });
  const select = el("select", { "aria-label": "Order", onchange: (event) => { order = event.target.value; fill(); } },
    el("option", { value: "run" }, "in order of execution"), el("option", { value: "cost" }, "by cost"), two ? el("option", { value: "change" }, "by change") : null);
  const filter = searchField("Filter: reformat, INT8, a name", "Filter kernels", (found) => { words = found; fill(); });
  root.append(el("p", { class: "note first" }, engines.verdict, " A row is a kernel", two ? ", beside the one that computes the same ONNX nodes" : "", "; red ones only convert or copy."), head,
    el("div", { class: "head controls" }, two ? el("label", {}, tick, " differences only") : null, select, filter, count), list);
  fill();
}

function sideHead(side, letter, timed) {
  const total = (pairs) => pairs.reduce((sum, [, count]) => sum + count, 0);
  const [computing, reformats] = [total(side.precisions), total(side.causes)];
  return el("div", { class: "side" },
    el("h2", {}, letter ? chip(letter, "plain") : null, " ", side.name, el("small", {}, " " + side.source)),
    el("p", { class: "totals" },
      timed && side.ms !== null ? [el("b", {}, side.ms.toFixed(3) + " ms"), " · "] : null,
      el("b", {}, whole(side.bytes)), " bytes read and written · ", el("b", {}, whole(side.kernels.length)), " kernels · ",
      el("b", { class: reformats ? "bad" : "" }, whole(reformats)), " reformats",
      side.causes.length ? ` (${side.causes.map(([cause, count]) => `${cause} ${count}`).join(", ")})` : ""),
    el("div", { class: "stack", role: "img", "aria-label": side.precisions.map(([name, count]) => `${name} ${count}`).join(", ") },
      side.precisions.map(([name, count]) => {
        const part = el("span", { class: tint(name), title: `${name}: ${count} kernels` }, count / computing > 0.08 ? `${name} ${count}` : "");
        part.style.flexGrow = String(count);
        return part;
      })));
}

function showKernel(side, index) {
  reveal("engines", `kernel-${side}-${index}`);
}
