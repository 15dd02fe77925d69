// An image and its boxes on a canvas, lines and text in the size of the screen, not of the image.

const dark = "rgb(0 0 0 / .85)";

export function draw(canvas, bitmap, image, colours) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const [w, h] = image.size_wh;
  const width = Math.max(1, Math.round(canvas.clientWidth * scale));
  const height = Math.max(1, Math.round((width * h) / w));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.aspectRatio = `${w} / ${h}`;
  }
  const pen = canvas.getContext("2d", { alpha: false });
  pen.drawImage(bitmap, 0, 0, width, height);
  const zoom = width / w;
  // the highest score last, so that it lies on top
  const found = [...image.detections].sort((a, b) => a.score - b.score);
  for (const each of found) {
    const [x1, y1, x2, y2] = each.box_xyxy.map((v) => v * zoom);
    pen.lineWidth = 5 * scale;
    pen.strokeStyle = dark;
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.lineWidth = 3 * scale;
    pen.strokeStyle = colours[each.label % colours.length];
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  chips(pen, found.reverse(), colours, { width, height, zoom, scale });
}

// Class and score at each box, highest score first: a label that would cover another is left out.
function chips(pen, found, colours, { width, height, zoom, scale }) {
  const size = 15 * scale, high = size * 1.35;
  pen.font = `700 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const taken = [];
  for (const each of found) {
    const track = each.track_id === null ? "" : `#${each.track_id} `;
    const text = `${track}${each.class} ${each.score.toFixed(2)}`;
    const wide = pen.measureText(text).width + 10 * scale;
    const [x1, y1, , y2] = each.box_xyxy.map((v) => v * zoom);
    const x = Math.max(0, Math.min(x1 - 2 * scale, width - wide));
    const free = (y) => y >= 0 && y + high <= height
      && taken.every((t) => x >= t.x + t.wide || x + wide <= t.x || y >= t.y + high || y + high <= t.y);
    const y = [y1 - high, y2, Math.max(0, y1)].find(free);
    if (y === undefined) continue;
    taken.push({ x, y, wide });
    const colour = colours[each.label % colours.length];
    pen.fillStyle = colour;
    pen.fillRect(x, y, wide, high);
    pen.fillStyle = luminance(colour) > 105 ? "#000" : "#fff";
    pen.fillText(text, x + 5 * scale, y + high / 2);
  }
}

function luminance(colour) {
  const n = parseInt(colour.slice(1), 16);
  return 0.2126 * (n >> 16) + 0.7152 * ((n >> 8) & 255) + 0.0722 * (n & 255);
}
