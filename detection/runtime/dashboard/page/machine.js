// Requests to the machine, each with a timeout.

import * as clock from "./clock.js";

const WAIT_MS = 4000;

async function ask(path, options = {}) {
  const ending = new AbortController();
  const timer = setTimeout(() => ending.abort(), WAIT_MS);
  try {
    return await fetch(path, { ...options, signal: ending.signal });
  } finally {
    clearTimeout(timer);
  }
}

async function checked(response) {
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw Object.assign(new Error(said.error || `the machine answered ${response.status}`), { status: response.status });
}

export async function state() {
  const sent = performance.now();
  const response = await checked(await ask("api/state"));
  const found = await response.json();
  clock.sample(sent, found.received_ns, found.now_ns, performance.now());
  return found;
}

export const events = async (after) => (await (await checked(await ask(`api/events?after=${after}`))).json()).events;

export async function change(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await checked(await ask(path, { method: "POST", headers, body: JSON.stringify(body) }))).json();
}

// Images newer than those that are there: [{camera, captured_ns, detections, size_wh, blob}, ...]
export async function images(have, size) {
  const query = new URLSearchParams({ size });
  for (const [camera, serial] of have) query.append("have", `${serial}:${camera}`);
  const sent = performance.now();
  const response = await checked(await ask(`api/images?${query}`));
  const body = await response.arrayBuffer();
  const back = performance.now();
  const length = new DataView(body).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length)));
  clock.sample(sent, head.received_ns, head.now_ns, back);
  let at = 4 + length;
  for (const image of head.images) {
    image.blob = new Blob([new Uint8Array(body, at, image.bytes)], { type: "image/jpeg" });
    at += image.bytes;
  }
  return head.images;
}
