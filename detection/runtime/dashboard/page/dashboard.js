// The page: requests the state twice a second and shows it.

import * as cameras from "./cameras.js";
import * as charts from "./charts.js";
import * as machine from "./machine.js";
import * as panels from "./panels.js";
import * as words from "./words.js";

const ASK_MS = 500;
const TICK_MS = 200;
const by = (id) => document.getElementById(id);

// The token is no longer needed (a cookie is set): it must not stay in the address bar.
if (location.search) history.replaceState(null, "", location.pathname);

// --- light or dark; light by default, for sunlight

function paint(theme) {
  document.documentElement.dataset.theme = theme;
  by("theme").setAttribute("aria-pressed", theme === "dark");
}
const remembered = { get: () => { try { return localStorage.getItem("theme"); } catch { return null; } },
  set: (theme) => { try { localStorage.setItem("theme", theme); } catch { /* private window */ } } };
paint(remembered.get() === "dark" ? "dark" : "light");
by("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  remembered.set(theme);
  paint(theme);
});

// --- the machine's state

let answered_ms = performance.now();

function show(state) {
  cameras.update(state, panels.snapshot);
  for (const figure of document.querySelectorAll("#ages dd")) {
    figure.textContent = words.ms(state.age_ms.recent[figure.dataset.key]);
  }
  charts.histogram(by("histogram"), state.age_ms.recent.bars, state.age_ms.recent);
  const all = state.age_ms.since_start;
  by("since-start").textContent =
    `Since the start: median ${words.ms(all.p50)}, 99 % below ${words.ms(all.p99)}, maximum ${words.ms(all.max)}`;
  counts(state);
  panels.thresholds(state);
  panels.recording(state.recording);
  by("model").textContent = state.model;
  by("running").textContent = words.duration(state.running_s);
}

function counts(state) {
  const plants = state.counts.unit === "plants";
  const unit = plants ? `Plants counted in ${state.counts.bucket_s} s` : "Boxes per image";
  by("counts-unit").textContent = plants ? `${unit}; next to the names: totals` : unit;
  by("legend").replaceChildren(...state.classes.map((each, label) => {
    const now = state.counts.series[label].findLast((value) => value !== null) ?? null;
    const line = document.createElement("li");
    const swatch = words.element("i", "", "swatch");
    swatch.style.background = each.colour;
    const number = plants ? words.whole(state.counted[each.name]) : now === null ? "–" : String(now);
    line.append(swatch, words.element("span", each.name, "name"), words.element("b", number));
    return line;
  }));
  charts.lines(by("counts"), state.counts, state.classes, unit);
}

function tick() {
  cameras.tick();
  const [live, all] = cameras.live();
  const overall = by("overall");
  const text = all === 0 ? "no camera yet" : all === 1 ? (live ? "camera live" : "camera not live") : `${live} of ${all} live`;
  if (overall.textContent !== text) overall.textContent = text;
  overall.classList.toggle("bad", live < all);
  const silent_ms = performance.now() - answered_ms;
  by("offline").hidden = silent_ms < 2000;
  if (silent_ms >= 2000) {
    by("offline").textContent = lost || `No answer from the machine for ${words.duration(silent_ms / 1000)}. The images are outdated.`;
  }
}

let lost = "";

async function ask() {
  for (;;) {
    const next = new Promise((done) => setTimeout(done, ASK_MS));
    try {
      const state = await machine.state();
      answered_ms = performance.now();
      lost = "";
      show(state);
      await panels.events(state.last_event);
    } catch (error) {
      if (error.status === 401) lost = "This page needs its token: open the address that swath stream printed.";
    }
    await next;
  }
}

setInterval(tick, TICK_MS);
ask();
cameras.follow();
