/**
 * Frames as text and back: what a client sends, built; what it hears, read. Knows no socket and keeps
 * nothing.
 */

/** @import { ClientFrame, Frame, MessageFrame, Places, SubscribeFrame } from "./protocol.js" */

/**
 * A message to the agents of a channel. Its key makes it safe to send again, and names it in acks and errors.
 *
 * @param {{ key: string, channel: string, text: string, conversationId: string }} message
 * @returns {MessageFrame}
 */
export function messageFrame({ key, channel, text, conversationId }) {
  const payload = { message: text, conversation_id: conversationId };
  return { channel, intent: "chat", payload, id: key, key };
}

/**
 * @param {string} id
 * @param {Places} channels
 * @returns {SubscribeFrame}
 */
export function subscribeFrame(id, channels) {
  return { type: "subscribe", channels, id };
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
