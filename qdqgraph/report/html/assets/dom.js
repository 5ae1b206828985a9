// Elements. Texts become text nodes only, so names in a model are never markup.
function el(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

// A text with its links to http and https as links, nothing else.
function linked(text) {
  return text.split(/(https?:\/\/[^\s,;()<>"']+)/).map((part, index) => index % 2
    ? el("a", { href: part, target: "_blank", rel: "noreferrer noopener" }, part)
    : part);
}

function chip(text, kind) {
  return el("span", { class: "chip " + kind }, text);
}

// A name shortened at its front, where names of a network repeat.
function cut(text, most) {
  return text.length <= most ? text : "…" + text.slice(text.length - most + 1);
}

const PEN = document.createElement("canvas").getContext("2d");
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

// The width of a text in pixels.
function width(text, font) {
  PEN.font = font + " " + FONT;
  return PEN.measureText(text).width;
}

// A text shortened to a width: at its front, or at its end.
function fitted(text, font, room, end = false) {
  if (width(text, font) <= room) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    const part = end ? text.slice(0, middle) + "…" : "…" + text.slice(text.length - middle);
    if (width(part, font) <= room) low = middle;
    else high = middle - 1;
  }
  return end ? text.slice(0, low) + "…" : "…" + text.slice(text.length - low);
}

// Calls an action with the words of a search field, in lower case.
function searchField(placeholder, label, action) {
  return el("input", { type: "search", placeholder, "aria-label": label, oninput: debounced((event) => action(tokens(event.target.value)), 80) });
}

function tokens(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

function bar(share) {
  return el("meter", { min: 0, max: 1, value: Math.min(1, share), "aria-hidden": "true" });
}

// The reasons of the forecast for a kernel; a link is followed to the web only.
function reasons(kernel) {
  return kernel.why.map((why) => el("p", { class: "why" },
    el("a", { href: /^https?:\/\//.test(why.link) ? why.link : null, target: "_blank", rel: "noreferrer noopener" }, why.rule), " ", why.text));
}

// Opens a part of the page with this element, and shows it.
function reveal(part, id) {
  open(part);
  const row = document.getElementById(id);
  if (!row) return;
  if (row.tagName === "DETAILS") row.open = true;
  document.querySelectorAll(".here").forEach((each) => each.classList.remove("here"));
  row.classList.add("here");
  row.scrollIntoView({ block: "center" });
}

function debounced(action, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), wait);
  };
}
