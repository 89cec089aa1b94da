/** How long something that is made shall live, to choose from. */

import { h } from "../ui/elements.js";

/** @type {[string, string][]} seconds, and the words for them */
const SPANS = [
  ["900", "15 minutes"], ["3600", "An hour"], ["28800", "8 hours"], ["86400", "A day"], ["2592000", "30 days"],
];

/**
 * @param {string} chosen seconds; "" for no end
 * @param {boolean} [mayBeEndless]
 */
export function lifetimeField(chosen, mayBeEndless = false) {
  const spans = mayBeEndless ? [...SPANS, /** @type {[string, string]} */ (["", "Until it is revoked"])] : SPANS;
  return h("select", { name: "ttl_seconds" },
    ...spans.map(([value, words]) => h("option", { value, selected: value === chosen }, words)));
}
