/** Counts, sizes and times as people read them. */

const KILO = 1000;
const BYTES = ["B", "kB", "MB", "GB"];
const SPANS = /** @type {const} */ ([["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]]);

/** 1234567 as "1,234,567". @param {number} number */
export function grouped(number) {
  return number.toLocaleString("en");
}

/** 1234 as "1.2 kB". @param {number} bytes */
export function size(bytes) {
  let unit = 0;
  while (bytes >= KILO && unit < BYTES.length - 1) {
    bytes /= KILO;
    unit += 1;
  }
  return `${unit > 0 ? bytes.toFixed(1) : bytes} ${BYTES[unit]}`;
}

/**
 * A length of time in its largest unit, with the next one while that says much: "3 min", "1 h 20 min", "45 s".
 *
 * @param {number} seconds
 */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const index = SPANS.findIndex(([, length]) => whole >= length);
  const found = SPANS[index];
  if (!found) return "0 s";
  const count = Math.floor(whole / found[1]);
  const next = SPANS[index + 1];
  const rest = next ? Math.floor((whole % found[1]) / next[1]) : 0;
  return rest > 0 && count < 10 && found[0] !== "min" ? `${count} ${found[0]} ${rest} ${next?.[0]}`
    : `${count} ${found[0]}`;
}

/**
 * How long ago a moment was: "just now", "3 min ago"; of one that is to come, "in 3 min".
 *
 * @param {number} at
 * @param {number} now
 */
export function since(at, now) {
  const seconds = (now - at) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < -1) return `in ${span(-seconds)}`;
  return seconds < 2 ? "just now" : `${span(seconds)} ago`;
}
