// Thresholds, recording, snapshots and events.

import * as machine from "./machine.js";
import * as words from "./words.js";

const by = (id) => document.getElementById(id);
const note = by("note");
let quiet = null;

export function notify(text) {
  note.textContent = text;
  note.hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => (note.hidden = true), 8000);
}

export async function attempt(doing, button = null) {
  if (button) button.disabled = true;
  try {
    return await doing();
  } catch (error) {
    notify(error.name === "AbortError" || error instanceof TypeError ? "No answer from the machine." : error.message);
    return null;
  } finally {
    if (button) button.disabled = false;
  }
}

// --- thresholds

const sliders = new Map();

class Slider {
  constructor(each) {
    const made = by("threshold").content.cloneNode(true);
    const part = (selector) => made.querySelector(selector);
    this.name = each.name;
    this.input = part("input");
    this.output = part("output");
    this.hint = part(".small");
    this.touched = -Infinity; // when; just after it, the machine's older answer does not move the slider back
    part(".name").textContent = each.name;
    part(".swatch").style.background = each.colour;
    this.input.setAttribute("aria-label", `Threshold of ${each.name}`);
    this.input.addEventListener("input", () => this.move(0));
    for (const [selector, by_, word] of [[".less", -0.05, "Lower"], [".more", 0.05, "Raise"]]) {
      part(selector).setAttribute("aria-label", `${word} the threshold of ${each.name}`);
      part(selector).addEventListener("click", () => this.move(by_));
    }
    by("thresholds").append(made);
  }

  update(score, model, lowest) {
    this.input.min = lowest;
    this.hint.textContent = `model file: ${model.toFixed(2)}`;
    if (performance.now() - this.touched > 1500) this.show(score);
  }

  show(score) {
    this.input.value = score;
    this.output.textContent = Number(score).toFixed(2);
  }

  move(by_) {
    this.touched = performance.now();
    this.show(Math.min(1, Math.max(Number(this.input.min), Number(this.input.value) + by_)));
    clearTimeout(this.timer);
    const value = Number(this.input.value);
    this.timer = setTimeout(() => attempt(() => machine.change("api/thresholds", { score: { [this.name]: value } })), 120);
  }
}

let own = {};
by("reset").addEventListener("click", (click) =>
  attempt(async () => {
    for (const slider of sliders.values()) clearTimeout(slider.timer); // pending changes are dropped
    await machine.change("api/thresholds", { score: own });
    for (const [name, score] of Object.entries(own)) sliders.get(name).show(score);
  }, click.currentTarget));

export function thresholds(state) {
  own = state.thresholds.model;
  for (const each of state.classes) {
    if (!sliders.has(each.name)) sliders.set(each.name, new Slider(each));
    sliders.get(each.name).update(state.thresholds.score[each.name], own[each.name], state.thresholds.lowest);
  }
}

// --- recording

const record = by("record");
record.addEventListener("click", () =>
  attempt(async () => {
    const on = record.getAttribute("aria-pressed") !== "true";
    recording(await machine.change("api/recording", { on }));
  }, record));

export function recording(now) {
  record.setAttribute("aria-pressed", now.on);
  record.querySelector("span").textContent = now.on ? `Stop ${clock(now.seconds)}` : "Record";
  const line = by("recording");
  line.className = now.error ? "bad" : "";
  const skipped = now.left_out ? `, ${words.whole(now.left_out)} skipped (the machine was busy)` : "";
  if (now.error) line.textContent = now.error;
  else if (now.on) line.textContent = `Recording into ${now.folder}: ${words.whole(now.images)} images${skipped}`;
  else if (now.files.length) line.textContent = `Saved in ${now.folder}: ${words.whole(now.images)} images${skipped}`;
  else line.textContent = `Off. Annotated videos, one per camera, are saved in ${now.folder}`;
  by("files").replaceChildren(...now.files.map((name) => words.element("li", name)));
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

// --- snapshots

const dialog = by("snapshot");

export function snapshot(camera, button) {
  return attempt(async () => {
    const taken = await machine.change("api/snapshots", { camera });
    by("snapshot-title").textContent = `Snapshot of ${camera}`;
    const image = by("snapshot-image");
    image.src = taken.files.annotated.url;
    image.alt = `What ${camera} saw, with boxes`;
    for (const link of dialog.querySelectorAll("[data-kind]")) {
      const file = taken.files[link.dataset.kind];
      link.href = file.url;
      link.download = file.name;
    }
    dialog.showModal();
  }, button);
}

// --- events

const BAD = new Set(["lost", "failed", "refused", "dead", "error"]);
const WARN = new Set(["stale", "behind", "full"]);
let last = 0;

export async function events(newest) {
  if (newest === last) return;
  if (newest < last) { // another stream began on this port
    last = 0;
    by("events").replaceChildren();
  }
  for (const event of await machine.events(last)) {
    const line = document.createElement("li");
    const mark = BAD.has(event.status) ? "bad" : WARN.has(event.status) ? "warn" : "";
    line.append(words.element("time", words.time(event.at_unix_s)), `${event.kind} ${event.subject} `,
      words.element("b", event.status, mark), event.message);
    by("events").prepend(line);
    last = event.id;
  }
  by("no-events").hidden = true;
  while (by("events").children.length > 100) by("events").lastChild.remove();
}
