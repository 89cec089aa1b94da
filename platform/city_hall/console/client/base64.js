/** Bytes in JSON: `{"$bytes": BASE64}`, an object with this one key, wherever a payload has it. Both ways are exact. */

const KEY = "$bytes";
/** Arguments that a call may have. */
const MOST_AT_ONCE = 0x8000;

/** A value as JSON. @param {unknown} value */
export function toJson(value) {
  return JSON.stringify(value, replaced);
}

/**
 * What stands for bytes, turned into them at any depth; all else stays the very value.
 *
 * @param {any} value
 * @returns {any}
 */
export function withBytes(value) {
  if (Array.isArray(value)) return value.map(withBytes);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value);
  const bytes = entries.length === 1 && entries[0]?.[0] === KEY ? bytesOf(entries[0][1]) : null;
  return bytes ?? Object.fromEntries(entries.map(([name, item]) => [name, withBytes(item)]));
}

/** Whether a text of JSON may have bytes in it; there are two ways to write the key. @param {string} json */
export function mayHaveBytes(json) {
  return json.includes(KEY) || json.includes("\\u");
}

/**
 * Looks at what a field truly holds, since some bytes (Node's) have a form of their own for JSON.
 *
 * @this {any}
 * @param {string} name
 * @param {unknown} item
 */
function replaced(name, item) {
  const own = this[name];
  return isBytes(own) ? { [KEY]: base64Of(own) } : item;
}

/**
 * @param {unknown} value
 * @returns {value is ArrayBuffer | ArrayBufferView}
 */
function isBytes(value) {
  return ArrayBuffer.isView(value) || value instanceof ArrayBuffer;
}

/** @param {ArrayBuffer | ArrayBufferView} data */
function base64Of(data) {
  const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
  let text = "";
  for (let at = 0; at < bytes.length; at += MOST_AT_ONCE) {
    text += String.fromCharCode(...bytes.subarray(at, at + MOST_AT_ONCE));
  }
  return btoa(text);
}

/** @param {unknown} text @returns {Uint8Array | null} null when it is no padded, canonical base64 */
function bytesOf(text) {
  if (typeof text !== "string") return null;
  try {
    const binary = atob(text);
    return btoa(binary) === text ? Uint8Array.from(binary, (character) => character.charCodeAt(0)) : null;
  } catch {
    return null;
  }
}
