// The machine's monotonic clock, as this page knows it: what makes an image's age true at the moment it is shown.
// Four stamps of each answer (sent, received there, answered there, received back) give the difference of the two
// clocks to within half the round trip (as in NTP, RFC 5905); the quickest of the last answers is used.

const KEPT = 30;
const samples = [];
let offset = null;

export function sample(sent_ms, received_ns, answered_ns, back_ms) {
  const received_ms = received_ns / 1e6, answered_ms = answered_ns / 1e6;
  const way_ms = Math.max(0, (back_ms - sent_ms) - (answered_ms - received_ms));
  samples.push({ way_ms, offset_ms: (received_ms - sent_ms + answered_ms - back_ms) / 2 });
  if (samples.length > KEPT) samples.shift();
  offset = samples.reduce((best, sample) => (sample.way_ms <= best.way_ms ? sample : best)).offset_ms;
}

// Milliseconds since the image was taken, or null before the first answer.
export function age_ms(captured_ns) {
  if (offset === null || captured_ns === null) return null;
  return Math.max(0, performance.now() + offset - captured_ns / 1e6);
}
