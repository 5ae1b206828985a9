// Where boxes are: at once by their depth, then by elkjs in a worker.
const WIDE = 216;
const HIGH = 50;
const GAP_X = 28;
const GAP_Y = 40;
const ROW = 19;

// The tensors between boxes in all views: one line for each source and target.
function lines() {
  const found = new Map();
  DATA.views.forEach((view, side) => {
    for (const edge of view.edges) {
      const key = edge.source + ">" + edge.target;
      if (!found.has(key)) found.set(key, { source: edge.source, target: edge.target, at: DATA.views.map(() => []) });
      found.get(key).at[side].push(edge);
    }
  });
  return [...found.values()];
}

// A layout at once: rows by the longest path from an input, ordered by the median of the neighbours above and below.
function quickLayout(ids, edges) {
  const into = new Map(ids.map((id) => [id, []]));
  const from = new Map(ids.map((id) => [id, []]));
  for (const edge of edges) {
    into.get(edge.target).push(edge.source);
    from.get(edge.source).push(edge.target);
  }
  const level = new Map();
  const waiting = new Map(ids.map((id) => [id, into.get(id).length]));
  const ready = ids.filter((id) => !waiting.get(id));
  for (let i = 0; i < ready.length; i += 1) {
    const id = ready[i];
    level.set(id, Math.max(0, ...into.get(id).map((other) => level.get(other) + 1)));
    for (const next of from.get(id)) {
      waiting.set(next, waiting.get(next) - 1);
      if (!waiting.get(next)) ready.push(next);
    }
  }
  for (const id of ids) if (!level.has(id)) level.set(id, 0);
  for (const id of ids) { // inputs directly above their first reader
    if (!into.get(id).length && from.get(id).length) {
      level.set(id, Math.max(0, Math.min(...from.get(id).map((other) => level.get(other))) - 1));
    }
  }
  const rows = [];
  for (const id of ids) (rows[level.get(id)] = rows[level.get(id)] || []).push(id);
  const x = new Map();
  const step = WIDE + GAP_X;
  rows.forEach((row) => row.forEach((id, place) => x.set(id, (place - (row.length - 1) / 2) * step)));
  const middle = (others) => {
    const known = others.map((other) => x.get(other)).sort((a, b) => a - b);
    return known.length ? (known[(known.length - 1) >> 1] + known[known.length >> 1]) / 2 : null;
  };
  for (let sweep = 0; sweep < 6; sweep += 1) {
    const near = sweep % 2 ? from : into;
    const order = sweep % 2 ? [...rows].reverse() : rows;
    for (const row of order) {
      if (!row) continue;
      const want = new Map(row.map((id) => [id, middle(near.get(id)) ?? x.get(id)]));
      row.sort((a, b) => want.get(a) - want.get(b));
      spread(row, want, x, step);
    }
  }
  const placed = new Map();
  rows.forEach((row, depth) => row.forEach((id) => placed.set(id, { x: x.get(id), y: depth * (HIGH + GAP_Y) })));
  return { placed, routes: new Map() };
}

// Gives a sorted row the wanted places, moved apart where they overlap: blocks with the mean of what their members want.
function spread(row, want, x, step) {
  const blocks = [];
  for (const id of row) {
    let block = { ids: [id], sum: want.get(id), at: want.get(id) };
    while (blocks.length) {
      const last = blocks[blocks.length - 1];
      if (last.at + last.ids.length * step <= block.at) break;
      blocks.pop();
      const shift = last.ids.length * step;
      block = { ids: [...last.ids, ...block.ids], sum: last.sum + block.sum - block.ids.length * shift, at: 0 };
      block.at = block.sum / block.ids.length;
    }
    blocks.push(block);
  }
  for (const block of blocks) block.ids.forEach((id, place) => x.set(id, block.at + place * step));
}

// Asks elkjs for a layout; the answer comes later, and not at all if the browser has no workers or no DecompressionStream.
async function elkLayout(ids, edges) {
  const packed = document.getElementById("layout").textContent;
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const code = await new Response(stream).blob();
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const worker = new Worker(address);
  const asked = (message) => new Promise((resolve, reject) => {
    worker.onmessage = (event) => event.data.error ? reject(event.data.error) : resolve(event.data.data);
    worker.onerror = (event) => reject(event);
    worker.postMessage(message);
  });
  try {
    await asked({ id: 0, cmd: "register", algorithms: ["layered"] });
    const many = ids.length > 700;
    const graph = {
      id: "root",
      layoutOptions: {
        "elk.algorithm": "layered",
        "elk.direction": "DOWN",
        "elk.edgeRouting": "ORTHOGONAL",
        "elk.layered.nodePlacement.strategy": "BRANDES_KOEPF",
        "elk.layered.nodePlacement.bk.edgeStraightening": "IMPROVE_STRAIGHTNESS",
        "elk.layered.layering.strategy": many ? "LONGEST_PATH_SOURCE" : "NETWORK_SIMPLEX",
        "elk.layered.thoroughness": many ? "2" : "7",
        "elk.layered.crossingMinimization.greedySwitch.type": many ? "OFF" : "TWO_SIDED",
        "elk.spacing.nodeNode": String(GAP_X),
        "elk.spacing.edgeNode": "18",
        "elk.spacing.edgeEdge": "10",
        "elk.layered.spacing.nodeNodeBetweenLayers": String(GAP_Y),
        "elk.layered.spacing.edgeNodeBetweenLayers": "16",
        "elk.layered.spacing.edgeEdgeBetweenLayers": "10",
        "elk.separateConnectedComponents": "true",
      },
      children: ids.map((id) => ({ id: String(id), width: WIDE, height: HIGH })),
      edges: edges.map((edge, i) => ({ id: "e" + i, sources: [String(edge.source)], targets: [String(edge.target)] })),
    };
    const done = await asked({ id: 1, cmd: "layout", graph, layoutOptions: {}, options: {} });
    const placed = new Map(done.children.map((box) => [Number(box.id), { x: box.x, y: box.y }]));
    const routes = new Map();
    for (const edge of done.edges) {
      const part = edge.sections && edge.sections[0];
      if (part) routes.set(Number(edge.id.slice(1)), [part.startPoint, ...(part.bendPoints || []), part.endPoint]);
    }
    return { placed, routes };
  } finally {
    worker.terminate();
    URL.revokeObjectURL(address);
  }
}
