/** One frame in the panel: a line that opens to the whole of it, formatted only then. */

import { pretty } from "../model/frame_log.js";
import { h, stopwatchTime } from "./elements.js";

/** @import { Entry } from "../model/frame_log.js" */

const ARROWS = {
  in: { text: "←", label: "received" },
  out: { text: "→", label: "sent" },
  note: { text: "·", label: "connection" },
};

/** @param {Entry} entry */
export function frameRow(entry) {
  const arrow = ARROWS[entry.direction];
  const line = [
    h("span", { class: "when" }, stopwatchTime(entry.at)),
    h("span", { class: "arrow", role: "img", "aria-label": arrow.label }, arrow.text),
    h("span", { class: "type" }, entry.direction === "note" ? entry.text : entry.type),
  ];
  if (entry.direction === "note") return h("li", { class: "frame note" }, ...line);
  const details = h("details", { ontoggle: () => open(details, entry) },
    h("summary", {}, ...line, h("span", { class: "size" }, size(entry.bytes))));
  return h("li", { class: `frame ${entry.direction}` }, details);
}

/**
 * @param {HTMLDetailsElement} details
 * @param {Entry} entry
 */
function open(details, { text }) {
  if (!details.open || details.querySelector("pre")) return;
  const body = h("pre", { tabindex: "0" }, pretty(text));
  const copy = h("button", { class: "small quiet", onclick: () => copyFrom(body, copy) }, "Copy");
  details.append(h("div", { class: "body" }, copy, body));
}

/** Where the clipboard is closed to pages, the text is at least selected. */
async function copyFrom(/** @type {HTMLElement} */ body, /** @type {HTMLButtonElement} */ button) {
  try {
    await navigator.clipboard.writeText(body.textContent ?? "");
    button.textContent = "Copied";
  } catch {
    getSelection()?.selectAllChildren(body);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

/** @param {number} bytes */
function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
