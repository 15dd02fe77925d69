// Numbers as text.

export function age(ms) {
  if (ms === null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10000) return `${(ms / 1000).toFixed(1)} s`;
  return duration(ms / 1000);
}

export function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  const two = (n) => String(n).padStart(2, "0");
  if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)} min`;
  return `${Math.floor(s / 3600)}:${two(Math.floor((s % 3600) / 60))} h`;
}

export const ms = (value) => (value === null ? "–" : value < 10 ? `${value.toFixed(1)} ms` : age(value));

export const whole = (n) => n.toLocaleString("en");

export const detections = (n) => `${whole(n)} detection${n === 1 ? "" : "s"}`;

export const time = (unix_s) => new Date(unix_s * 1000).toLocaleTimeString("en-GB");

export const element = (name, text = "", className = "") => {
  const made = document.createElement(name);
  made.textContent = text; // as text: names come from outside
  if (className) made.className = className;
  return made;
};
