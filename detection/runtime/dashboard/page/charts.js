// Two charts as SVG, drawn in the size they are shown in, so that text keeps its size on a phone.

import * as words from "./words.js";

const HEIGHT = 200;
const SHORTEST_S = 120;
const NS = "http://www.w3.org/2000/svg";

function node(parent, name, attributes, text = "") {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

function sheet(box, label) {
  const width = Math.max(200, box.clientWidth);
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("height", HEIGHT);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  box.replaceChildren(svg);
  return [svg, width];
}

const tidy = (n) => String(Number(n.toPrecision(2)));

// bars: {width_ms, counts}; the last count is of all above
export function histogram(box, bars, marks) {
  const percent = (key) => `${key} ${words.ms(marks[key])}`;
  const [svg, width] = sheet(box, `Ages of images as bars: ${["p50", "p95", "p99"].map(percent).join(", ")}`);
  const bottom = HEIGHT - 28, top = 26, left = 4, right = width - 4;
  const n = bars.counts.length, most = Math.max(1, ...bars.counts);
  const step = (right - left) / n;
  bars.counts.forEach((count, i) => {
    if (!count) return;
    const high = Math.max(3, ((bottom - top) * count) / most); // one in a thousand is seen too
    node(svg, "rect", { class: "bar", x: left + i * step + 1, y: bottom - high, width: Math.max(1, step - 2), height: high });
  });
  node(svg, "line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
  for (let i = 0; i < n; i += 10) {
    const at = i === n - 1 ? "end" : i ? "middle" : "start";
    const text = `${tidy(i * bars.width_ms)} ms${i === n - 1 ? "+" : ""}`;
    node(svg, "text", { x: i === n - 1 ? right : left + i * step, y: HEIGHT - 8, "text-anchor": at }, text);
  }
  let free = -Infinity; // where the last mark's text ends
  for (const [key, text] of [["p50", "50 %"], ["p95", "95 %"], ["p99", "99 %"]]) {
    if (marks[key] === null) continue;
    const x = Math.min(right - 2, left + (marks[key] / bars.width_ms) * step);
    node(svg, "line", { class: "mark", x1: x, x2: x, y1: top - 4, y2: bottom });
    const place = Math.max(Math.min(x, right - 20), left + 20);
    if (place - 20 > free) {
      node(svg, "text", { x: place, y: 16, "text-anchor": "middle" }, text);
      free = place + 24;
    }
  }
}

// counts: {bucket_s, series}, one series per class, null where there was no image
export function lines(box, counts, classes, unit) {
  // what is older than the first image is left out, down to two minutes
  const first = Math.min(...counts.series.map((series) => series.findIndex((v) => v !== null)).filter((i) => i >= 0));
  const all = counts.series[0]?.length ?? 0;
  const from = Math.max(0, Math.min(first, all - SHORTEST_S / counts.bucket_s));
  const shown = counts.series.map((series) => series.slice(from));
  const [svg, width] = sheet(box, `${unit} over the last minutes, one line for each class`);
  const bottom = HEIGHT - 28, top = 10, left = 44, right = width - 6;
  const n = shown[0]?.length ?? 0;
  const most = ceiling(Math.max(0, ...shown.flat().filter((v) => v !== null)));
  const x = (i) => left + ((right - left) * i) / Math.max(1, n - 1);
  const y = (v) => bottom - ((bottom - top) * v) / most;
  for (const part of [0, 0.5, 1]) {
    const at = y(most * part);
    node(svg, "line", { class: part ? "grid" : "axis", x1: left, x2: right, y1: at, y2: at });
    node(svg, "text", { x: left - 6, y: at + 5, "text-anchor": "end" }, tidy(most * part));
  }
  const span_min = (n * counts.bucket_s) / 60;
  for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const ago = Number((span_min * (1 - part)).toFixed(1));
    node(svg, "text", { x: left + (right - left) * part, y: HEIGHT - 8, "text-anchor": anchor }, ago ? `${ago} min ago` : "now");
  }
  shown.forEach((series, label) => {
    const path = trace(series, x, y);
    if (!path) return;
    node(svg, "path", { class: "casing", d: path }); // dark below each line: yellow is seen on white
    node(svg, "path", { class: "line", d: path, stroke: classes[label].colour });
  });
}

// A gap where there was no image; a point of its own is drawn as a dot.
function trace(series, x, y) {
  let path = "", down = false;
  series.forEach((value, i) => {
    if (value === null) {
      down = false;
      return;
    }
    const at = `${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    path += down ? `L${at}` : `M${at}l0 0`;
    down = true;
  });
  return path;
}

function ceiling(value) {
  if (value <= 0) return 1;
  const ten = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].find((step) => step * ten >= value) * ten;
}
