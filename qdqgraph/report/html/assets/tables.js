// Tables that sort and filter.
const SHOWN = 400; // rows at once

const RIGHT = new Set(["count", "bytes", "share", "decibels", "number", "scale"]);

function cellText(value, kind) {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (kind === "share") return value > 0 && value < 0.0005 ? (value * 1e6).toPrecision(2) + " ppm" : (100 * value).toFixed(value < 0.1 ? 2 : 1) + " %";
  if (kind === "count" || kind === "bytes") return whole(value);
  if (kind === "decibels") return value.toFixed(1) + " dB";
  return figure(value);
}

// A table: `rows` are { cells, id, severity, tone, go }; `go` shows in the graph what a row is about.
function grid(title, columns, rows, options = {}) {
  let sort = options.sort || { column: -1, up: true };
  let words = [];
  let all = false;
  const body = el("tbody");
  const count = el("span", { class: "count" });
  const more = el("button", { type: "button", class: "link", onclick: () => { all = true; fill(); } });
  const most = columns.map((column, index) => Math.max(1e-12, ...rows.map((row) => typeof row.cells[index] === "number" ? row.cells[index] : 0)));
  const heads = columns.map((column, index) => el("th", { scope: "col", class: RIGHT.has(column.kind) ? "right" : "", title: column.help || null, tabindex: 0, role: "columnheader button",
    onclick: () => by(index), onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); by(index); } } }, column.label));
  const filter = searchField("Filter", "Filter " + title, (found) => { words = found; fill(); });
  const texts = rows.map((row) => row.cells.map((cell, index) => cellText(cell, columns[index].kind)).join(" ").toLowerCase());
  function by(index) {
    sort = { column: index, up: sort.column === index ? !sort.up : !RIGHT.has(columns[index].kind) };
    fill();
  }
  function fill() {
    heads.forEach((head, index) => {
      if (sort.column === index) head.setAttribute("aria-sort", sort.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const chosen = rows.map((row, index) => index).filter((index) => words.every((word) => texts[index].includes(word)));
    if (sort.column >= 0) {
      const value = (index) => rows[index].cells[sort.column];
      const compared = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || x === undefined) return 1;
        if (y === null || y === undefined) return -1;
        const way = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
        return sort.up ? way : -way;
      };
      chosen.sort((a, b) => compared(a, b) || a - b);
    }
    const shown = all ? chosen : chosen.slice(0, SHOWN);
    body.replaceChildren(...shown.map((index) => rowOf(rows[index], columns, most)));
    count.textContent = chosen.length === rows.length ? whole(rows.length) : `${whole(chosen.length)} of ${whole(rows.length)}`;
    more.textContent = `show all ${whole(chosen.length)} rows`;
    more.hidden = shown.length === chosen.length;
  }
  fill();
  const head = el("div", { class: "head" }, el("h2", {}, title), count, rows.length > 8 && !options.plain ? filter : null);
  return el("div", { class: "table", id: options.id || null }, head, options.note ? el("p", { class: "note" }, options.note) : null,
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body)), more);
}

function rowOf(row, columns, most) {
  const cells = columns.map((column, index) => {
    const text = cellText(row.cells[index], column.kind);
    let content = text.includes("http") ? linked(text) : text;
    if (column.kind === "code") content = codeCell(text, row);
    else if (column.kind === "name") content = nameCell(text, row);
    const part = el("td", { class: (RIGHT.has(column.kind) ? "right " : "") + (column.kind === "name" ? "mono" : column.kind === "code" ? "code" : "") }, content);
    if (column.kind === "share" && typeof row.cells[index] === "number") part.prepend(bar(row.cells[index] / most[index]));
    return part;
  });
  return el("tr", { id: row.id || null, class: row.tone || "" }, cells);
}

function nameCell(text, row) {
  const short = el("span", { class: "front", title: text }, el("bdi", {}, text));
  return row.go ? el("button", { type: "button", class: "link", title: "Show in the graph: " + text, onclick: row.go }, short) : short;
}

function codeCell(text, row) {
  const kind = row.severity || "plain";
  if (text.includes(" ")) return text.split(" ").map((code) => [codeCell(code, row), " "]);
  if (!RULES.has(text)) return chip(text, kind);
  return el("button", { type: "button", class: "chip " + kind, title: RULES.get(text).summary, onclick: () => reveal("findings", "rule-" + text) }, text);
}

function given(table, options = {}) {
  const rows = table.rows.map((cells, index) => {
    const box = table.boxes[index] ?? null;
    return { cells, severity: table.tones[index], go: box === null ? null : () => showBox(box) };
  });
  return grid(table.title, table.columns, rows, { id: "table-" + table.id, note: table.note, ...options });
}

function startFindings(root) {
  const columns = [
    { label: "code", kind: "code" }, { label: "place", kind: "name" }, { label: "what is wrong", kind: "text" },
    { label: "bytes a run", kind: "bytes" }, { label: "bits lost", kind: "number", help: "The largest loss of resolution by its repair" },
    { label: "outcome", kind: "text" },
  ];
  const rows = ORDER.map((index) => {
    const item = DATA.findings[index];
    return {
      id: "finding-" + index, severity: item.severity, tone: item.state,
      cells: [item.code, item.place, item.message, item.bytes || null, item.bits === null ? null : Number(item.bits.toFixed(2)), STATES[item.state] + (item.why ? ": " + item.why : "")],
      go: item.box === null ? null : () => showFinding(index),
    };
  });
  root.append(grid("Findings", columns, rows, { id: "table-findings" }));
  if (DATA.rules.length) {
    root.append(el("h2", { class: "rules" }, "Rules"), el("div", {}, DATA.rules.map((rule) => {
      const part = ruleDetails(rule);
      part.id = "rule-" + rule.code;
      part.firstChild.replaceChildren(chip(rule.code, "plain"), " ", rule.name, el("span", { class: "state" }, ` ${rule.safety} · ${rule.summary}`));
      return part;
    })));
  }
}

function startTables(root) {
  if (DATA.front) root.append(frontChart(DATA.front));
  for (const table of DATA.tables) root.append(given(table));
}
