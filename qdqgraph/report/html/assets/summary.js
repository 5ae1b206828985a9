// The rest of the summary: findings by code, the most expensive places, and the front of a search.
function startSummary(root) {
  if (DATA.front) root.append(frontChart(DATA.front));
  if (DATA.codes) root.append(given(DATA.codes, { plain: true }));
  if (DATA.dearest) root.append(given(DATA.dearest, { plain: true }));
  if (!DATA.codes && !DATA.front) for (const table of DATA.tables.slice(0, 2)) root.append(given(table, { plain: true }));
}

function frontChart(front) {
  const [w, h, edge] = [620, 300, 52];
  const times = front.points.map((point) => point.ms);
  const levels = front.points.map((point) => point.quality);
  const scale = (values, low, high) => {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return (value) => low + (high - low) * (most > least ? (value - least) / (most - least) : 0.5);
  };
  const x = scale(times, edge + 16, w - 24);
  const y = scale(levels, h - edge - 10, 24);
  const names = { front: "front", base: "repaired", chosen: "chosen", float: "float" };
  const named = new Map(); // points of the same place share one label
  for (const point of front.points) {
    const place = `${x(point.ms).toFixed(0)} ${y(point.quality).toFixed(0)}`;
    if (point.role !== "front") named.set(place, [...(named.get(place) || []), names[point.role]]);
  }
  const points = front.points.map((point) => svg("g", { class: "point " + point.role },
    svg("circle", { cx: x(point.ms), cy: y(point.quality), r: point.role === "chosen" ? 7 : 5 }),
    svg("title", {}, `${point.name}: ${figure(point.ms)} ms, ${figure(point.quality)} ${front.unit}`)));
  for (const [place, words] of named) {
    const [left, top] = place.split(" ").map(Number);
    const late = left > w - 140;
    points.push(svg("text", { x: left + (late ? -11 : 11), y: top + 4, "text-anchor": late ? "end" : "start", class: "label" }, words.join(", ")));
  }
  const ticks = [Math.min(...times), Math.max(...times)].map((value, last) => svg("text", { x: x(value), y: h - edge + 18, "text-anchor": last ? "end" : "start" }, figure(value)));
  const levelTicks = [Math.min(...levels), Math.max(...levels)].map((value) => svg("text", { x: edge - 6, y: y(value) + 4, "text-anchor": "end" }, Number(value.toPrecision(4))));
  return el("div", { class: "table chart" }, el("div", { class: "head" }, el("h2", {}, "Time and quality")),
    svg("svg", { viewBox: `0 0 ${w} ${h}`, class: "front", role: "img", "aria-label": "Front of the search" },
      svg("path", { class: "axis", d: `M${edge} 10V${h - edge}H${w - 10}` }), ticks, levelTicks, points,
      svg("text", { x: w - 10, y: h - 12, "text-anchor": "end" }, `estimated ms on ${front.device}`),
      svg("text", { x: 6, y: 12 }, front.unit)));
}
