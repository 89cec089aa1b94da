/**
 * Codes of the protocol in words for people. A code without words here is told in the platform's own
 * sentence.
 */

/** @import { Refusal } from "../client/index.js" */

/** @type {Record<string, string>} */
const REFUSALS = {
  rate_limited: "That was faster than the platform lets one person write.",
  overloaded: "Too much is waiting there already.",
  unavailable: "The platform cannot take messages at the moment.",
  forbidden: "Your session does not allow this.",
  conflict: "Another message was sent under the same key.",
  internal: "The platform failed at this; its log has the details.",
};

/** @type {Record<string, string>} */
const GAPS = {
  trimmed: "the history does not reach back that far",
  unknown_epoch: "the store was replaced in the meantime",
  diverged: "the store lost what came after",
  future: "the store is behind what this page has seen",
  too_far: "too much happened in the meantime",
};

/**
 * @param {Refusal} refusal
 */
export function refusalInWords({ code, message, retryAfter = 0 }) {
  const sentence = REFUSALS[code] ?? message;
  return retryAfter > 0 ? `${sentence} Try again in ${seconds(retryAfter)}.` : sentence;
}

/** Why a stretch could not be recovered. @param {string} reason */
export function gapInWords(reason) {
  return GAPS[reason] ?? reason.replaceAll("_", " ");
}

/** @param {number} count */
export function seconds(count) {
  const whole = Math.max(1, Math.ceil(count));
  return whole === 1 ? "1 second" : `${whole} seconds`;
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} many
 */
export function counted(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

/** What went wrong, as a sentence. @param {unknown} error */
export function sentenceOf(error) {
  return error instanceof Error ? error.message : String(error);
}
