/**
 * Frames as they travel, and back: what a client sends, built; what it hears, read. Knows no socket and keeps
 * nothing.
 */

import { mayHaveBytes, toJson, withBytes } from "./base64.js";
import { pack, unpack } from "./msgpack.js";

/** @import { ClientFrame, Frame, Places } from "./protocol.js" */
/** @import { RefreshFrame, StopFrame, SubscribeFrame, UnsubscribeFrame } from "./protocol.js" */

/**
 * @param {string} id
 * @param {Places} channels
 * @returns {SubscribeFrame}
 */
export function subscribeFrame(id, channels) {
  return { type: "subscribe", channels, id };
}

/** @param {string[]} channels @returns {UnsubscribeFrame} */
export function unsubscribeFrame(channels) {
  return { type: "unsubscribe", channels };
}

/** @param {string} id @param {string} token @returns {RefreshFrame} */
export function refreshFrame(id, token) {
  return { type: "refresh", session_token: token, id };
}

/** @param {string} id @param {string} messageId @returns {StopFrame} */
export function stopFrame(id, messageId) {
  return { type: "stop", message_id: messageId, id };
}

/** A frame as JSON. @param {ClientFrame | Frame} frame */
export function encode(frame) {
  return toJson(frame);
}

/** A frame as MessagePack. @param {ClientFrame} frame */
export function encodeBinary(frame) {
  return pack(frame);
}

/**
 * Reads one frame, of either encoding; null for what is no object with a type, which a client passes over.
 *
 * @param {unknown} data what the socket brought: text, or an ArrayBuffer
 * @returns {Frame | null}
 */
export function decode(data) {
  try {
    const frame = typeof data === "string" ? fromJson(data)
      : data instanceof ArrayBuffer ? /** @type {any} */ (unpack(new Uint8Array(data))) : null;
    return frame !== null && typeof frame === "object" && typeof frame.type === "string" ? frame : null;
  } catch {
    return null;
  }
}

/** @param {string} text */
function fromJson(text) {
  const frame = JSON.parse(text);
  if (frame?.payload && mayHaveBytes(text)) frame.payload = fieldsWithBytes(frame.payload);
  return frame;
}

/** The fields of a payload; a payload itself is never bytes. @param {Record<string, unknown>} payload */
function fieldsWithBytes(payload) {
  return Object.fromEntries(Object.entries(payload).map(([name, item]) => [name, withBytes(item)]));
}

/** How many bytes a text takes on the wire. @param {string} text */
export function byteLength(text) {
  return new TextEncoder().encode(text).length;
}

/** A fresh key: 128 random bits. (randomUUID would need a secure context.) */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
