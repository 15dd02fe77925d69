// The tiles: one per camera, with its newest image, the true age of that image, and its status.

import * as boxes from "./boxes.js";
import * as clock from "./clock.js";
import * as machine from "./machine.js";
import * as words from "./words.js";

const PAUSE_MS = 66; // 15 images a second at most
const UNSEEN_MS = 700; // off the screen a tile learns of new images only from the page's requests for the state
const LABELS = { live: "live", late: "old image", stale: "no image", lost: "lost", ended: "ended", starting: "starting" };

const grid = document.getElementById("cameras");
const spoken = document.getElementById("spoken");
const tiles = new Map();
let colours = ["#ffffff"];

// Only tiles on the screen ask for images.
const seen = new Set();
const watcher = new IntersectionObserver((changes) => {
  for (const change of changes) seen[change.isIntersecting ? "add" : "delete"](change.target);
});

class Tile {
  constructor(name, onSnapshot) {
    const made = document.getElementById("camera").content.cloneNode(true);
    this.name = name;
    this.root = made.querySelector(".camera");
    this.part = (selector) => this.root.querySelector(selector);
    this.part(".name").textContent = name;
    this.canvas = this.part("canvas");
    this.serial = 0;
    this.shown_ns = null; // when the image on the screen was taken
    this.newest_ns = null; // when the newest one there is was taken
    this.state = "starting";
    this.about = null;
    const snap = this.part(".snap");
    snap.setAttribute("aria-label", `Snapshot of ${name}`);
    snap.addEventListener("click", () => onSnapshot(name, snap));
    const enlarge = this.part(".enlarge");
    enlarge.setAttribute("aria-label", `Enlarge ${name}`);
    enlarge.addEventListener("click", () => {
      const large = this.root.classList.toggle("large");
      enlarge.setAttribute("aria-pressed", large);
    });
    grid.append(made);
    watcher.observe(this.root);
  }

  update(about) {
    this.about = about;
    this.newest_ns = Math.max(this.newest_ns ?? 0, about.captured_ns ?? 0) || null;
    this.part(".snap").disabled = about.images === 0;
    this.part(".fps").textContent = `${about.fps.toFixed(1)} fps`;
    this.part(".found").textContent = words.detections(about.found);
    this.canvas.setAttribute("aria-label", `Image of ${this.name}, ${words.detections(about.found)}`);
    this.tick();
  }

  show(image, bitmap) {
    boxes.draw(this.canvas, bitmap, image, colours);
    this.serial = image.serial;
    this.shown_ns = image.captured_ns;
    this.newest_ns = Math.max(this.newest_ns ?? 0, image.captured_ns);
    this.part(".found").textContent = words.detections(image.detections.length);
  }

  // Ages grow whether or not anything arrives: this runs on the page's own clock.
  tick() {
    if (this.about === null) return;
    const age = clock.age_ms(this.newest_ns);
    let state = this.about.status in LABELS ? this.about.status : "live";
    const slack_ms = seen.has(this.root) ? 0 : UNSEEN_MS;
    if (state === "live" && age !== null && age > this.about.late_after_s * 1000 + slack_ms) state = "late";
    this.part(".age").textContent = this.shown_ns === null ? "–" : `${words.age(clock.age_ms(this.shown_ns))} old`;
    this.root.dataset.state = state;
    this.part(".status").textContent = LABELS[state];
    const over = this.part(".over");
    over.hidden = state === "live";
    if (!over.hidden) {
      const since = age === null ? "No image yet" : `Last image ${words.age(age)} ago`;
      over.replaceChildren(words.element("b", state === "starting" ? "Waiting for the first image" : since));
      over.append(this.about.message);
    }
    if (state !== this.state) {
      spoken.textContent = `${this.name}: ${LABELS[state]}`;
      this.state = state;
    }
  }
}

export function update(state, onSnapshot) {
  colours = state.classes.map((each) => each.colour);
  for (const about of state.cameras) {
    if (!tiles.has(about.name)) tiles.set(about.name, new Tile(about.name, onSnapshot));
    tiles.get(about.name).update(about);
  }
  const n = tiles.size; // 1, 2, 3 in a row; 4 as 2 by 2; more in threes, from 7 on in fours
  const columns = n < 4 ? Math.max(1, n) : n === 4 ? 2 : n < 7 ? 3 : 4;
  grid.style.setProperty("--columns", columns);
  grid.style.setProperty("--few-columns", Math.min(columns, 2));
}

export function tick() {
  for (const tile of tiles.values()) tile.tick();
}

// How many cameras are live, and how many there are.
export const live = () => [[...tiles.values()].filter((tile) => tile.state === "live").length, tiles.size];

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// One request at a time for all cameras: a slow phone gets fewer images, never old ones.
export async function follow() {
  for (;;) {
    const visible = [...tiles.values()].filter((tile) => seen.has(tile.root));
    if (document.hidden || !visible.length) {
      await pause(200);
      continue;
    }
    const next = pause(PAUSE_MS);
    const widest = Math.max(...visible.map((tile) => tile.canvas.clientWidth)) * Math.min(devicePixelRatio || 1, 2);
    try {
      const found = await machine.images(visible.map((tile) => [tile.name, tile.serial]), widest > 900 ? "large" : "small");
      for (const image of found) {
        const bitmap = await createImageBitmap(image.blob);
        tiles.get(image.camera).show(image, bitmap);
        bitmap.close();
      }
    } catch {
      await pause(1000); // the machine does not answer; the page shows that by the missing state
    }
    await next;
  }
}
