// Search over layers, their nodes and tensors, and findings.
const HITS = 40;

function index() {
  const found = [];
  for (const id of BOXES.keys()) {
    const box = BOXES.get(id).find(Boolean);
    const names = new Set([box.name, box.title, box.op, ...box.also]);
    for (const side of BOXES.get(id)) {
      if (!side) continue;
      for (const node of side.nodes) { names.add(node.name); names.add(node.tensor); names.add(node.op); }
      for (const pair of side.pairs) names.add(pair.tensor);
    }
    found.push({ text: [...names].join(" ").toLowerCase(), title: box.title, kind: box.op, name: box.name, go: () => showBox(id) });
  }
  DATA.findings.forEach((item, number) => found.push({
    text: `${item.code} ${item.name} ${item.place} ${item.node}`.toLowerCase(), title: `${item.code} ${item.name}`, kind: "finding", name: item.place,
    go: () => item.box === null ? reveal("findings", "finding-" + number) : showFinding(number),
  }));
  if (!DATA.views.length && DATA.engines) {
    DATA.engines.sides.forEach((side, number) => side.kernels.forEach((kernel, place) => found.push({
      text: `${kernel.name} ${kernel.kind} ${kernel.precision}`.toLowerCase(), title: kernel.title, kind: kernel.kind, name: side.name, go: () => showKernel(number, place),
    })));
  }
  return found;
}

function startSearch() {
  const field = document.getElementById("search");
  const list = document.getElementById("hits");
  let entries = null;
  let hits = [];
  let at = 0;
  function show() {
    const words = tokens(field.value);
    entries ??= index();
    hits = words.length ? entries.filter((entry) => words.every((word) => entry.text.includes(word))) : [];
    // Names that a layer is called by come before names inside it; short ones first.
    const near = (entry) => words.every((word) => entry.title.toLowerCase().includes(word)) ? 0 : 1;
    hits.sort((a, b) => near(a) - near(b) || a.title.length - b.title.length);
    at = 0;
    render();
  }
  function render() {
    list.hidden = !field.value.trim();
    list.replaceChildren(...hits.slice(0, HITS).map((hit, place) => el("button", { type: "button", role: "option", class: place === at ? "at" : "", "aria-selected": String(place === at), onclick: () => go(hit) },
      el("span", { class: "kind" }, hit.kind), el("b", {}, hit.title), el("small", {}, el("bdi", {}, hit.name)))),
    hits.length > HITS ? el("p", {}, `${whole(hits.length - HITS)} more`) : hits.length ? "" : el("p", {}, "nothing found"));
    const current = list.querySelector(".at");
    if (current) current.scrollIntoView({ block: "nearest" });
  }
  function go(hit) {
    list.hidden = true;
    field.blur();
    hit.go();
  }
  field.addEventListener("input", debounced(show, 40));
  field.addEventListener("focus", () => { if (field.value.trim()) show(); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      at = Math.max(0, Math.min(Math.min(hits.length, HITS) - 1, at + (event.key === "ArrowDown" ? 1 : -1)));
      render();
    } else if (event.key === "Enter") {
      show();
      if (hits[at]) go(hits[at]);
    } else if (event.key === "Escape") {
      list.hidden = true;
      field.blur();
    }
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".find")) list.hidden = true; });
}
