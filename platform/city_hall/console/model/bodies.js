/** What of a payload a person reads: its text, and whatever else it carries as JSON. */

/** @import { Payload } from "../client/index.js" */

/** @typedef {{ text: string, data: string }} Body  either may be empty */

/** Fields that steer a message and say nothing to a reader. */
const STEERING = new Set(["message", "conversation_id", "metadata"]);

/**
 * @param {Payload} payload
 * @returns {Body}
 */
export function bodyOf(payload) {
  const text = textOf(payload);
  const isTold = (/** @type {string} */ name) => STEERING.has(name) && (name !== "message" || text !== "");
  const rest = Object.entries(payload).filter(([name]) => !isTold(name));
  return { text, data: rest.length > 0 ? JSON.stringify(Object.fromEntries(rest), null, 2) : "" };
}

/** @param {Payload | undefined} payload */
export function textOf(payload) {
  return typeof payload?.message === "string" ? payload.message : "";
}
