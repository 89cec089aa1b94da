/** What narrows a list down, and does so once somebody has stopped typing. */

import { h } from "../ui/elements.js";

const TYPING_MS = 300;

/**
 * @param {string} value
 * @param {string} placeholder
 */
export function userFilter(value, placeholder) {
  return h("input", {
    type: "search", name: "user", value, placeholder, pattern: "[A-Za-z0-9._~@\\-]{1,128}", autocomplete: "off",
    autocapitalize: "none", spellcheck: "false", "data-filter": true,
  });
}

/**
 * Once somebody has stopped typing; never after the page was left, whose address is another one's then.
 *
 * @param {() => void} then
 * @param {AbortSignal} signal
 */
export function settled(then, signal) {
  let timer = 0;
  signal.addEventListener("abort", () => clearTimeout(timer));
  return () => {
    clearTimeout(timer);
    timer = setTimeout(then, TYPING_MS);
  };
}
