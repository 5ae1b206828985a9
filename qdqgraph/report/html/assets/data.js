"use strict";
// The page's data, and tables of what refers to what.
const DATA = JSON.parse(document.getElementById("data").textContent);

const BOXES = new Map(); // number of a box -> the box in each view, undefined where a view lacks it
DATA.views.forEach((view, side) => {
  for (const box of view.boxes) {
    if (!BOXES.has(box.id)) BOXES.set(box.id, new Array(DATA.views.length));
    BOXES.get(box.id)[side] = box;
  }
});
const FOUND = new Map(); // number of a box -> indices of findings at it
DATA.findings.forEach((item, index) => {
  if (item.box === null) return;
  if (!FOUND.has(item.box)) FOUND.set(item.box, []);
  FOUND.get(item.box).push(index);
});
const RULES = new Map(DATA.rules.map((rule) => [rule.code, rule]));
// Findings in the order of their cost, errors first.
const ORDER = DATA.findings.map((_, index) => index)
  .sort((a, b) => rank(DATA.findings[b]) - rank(DATA.findings[a]) || a - b);

const PLACED = ORDER.filter((index) => DATA.findings[index].box !== null);

function rank(item) {
  return item.bytes + (item.severity === "error" ? 1e15 : 0);
}

// Whether a finding is there in a view: all are before a repair; after it, those that are left.
function isOpen(item, side) {
  return !["repaired", "gone"].includes(item.state) || side < DATA.views.length - 1;
}

const STATES = { repairable: "repairable", follows: "resolved by other repairs", left: "left", repaired: "repaired", gone: "resolved by other repairs" };

function engineOf(side) {
  const engines = DATA.engines;
  return engines ? engines.sides[Math.min(side, engines.sides.length - 1)] : null;
}

function kernelOf(box, side) {
  const engine = engineOf(side);
  return engine && box.kernel !== null ? engine.kernels[box.kernel] : null;
}

const WHOLE = new Intl.NumberFormat("en-US");

function whole(value) {
  return WHOLE.format(value);
}

function size(bytes) {
  if (bytes < 1000) return bytes + " B";
  const units = ["kB", "MB", "GB"];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < 2) { value /= 1000; unit += 1; }
  return (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)) + " " + units[unit];
}

function percent(share) {
  return (100 * share).toFixed(share < 0.0995 && share > 0 ? 1 : 0) + " %";
}

function figure(value) {
  return value === null ? "?" : String(Number(value.toPrecision(6)));
}

// The class of a precision, for its colour.
function tint(precision) {
  if (/^(U?INT8|FP8|INT4|FP4)/.test(precision)) return "int8";
  if (/^(FP16|BF16)/.test(precision)) return "fp16";
  return /^(FP32|FP64|TF32)/.test(precision) ? "fp32" : "none";
}
