/**
 * Frames as text and back: what a client sends, built; what it hears, read. Knows no socket and keeps
 * nothing.
 */

/** @import { ClientFrame, Frame, Places } from "./protocol.js" */
/** @import { RefreshFrame, SubscribeFrame, UnsubscribeFrame } from "./protocol.js" */

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

/** @param {ClientFrame} frame */
export function encode(frame) {
  return JSON.stringify(frame);
}

/**
 * Reads one frame; null for what is no object with a type, which a client passes over.
 *
 * @param {unknown} data what the socket brought
 * @returns {Frame | null}
 */
export function decode(data) {
  if (typeof data !== "string") return null;
  try {
    const frame = JSON.parse(data);
    return frame !== null && typeof frame === "object" && typeof frame.type === "string" ? frame : null;
  } catch {
    return null;
  }
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
