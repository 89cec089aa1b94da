/** The few drawings of the page, as one path each on a 16 by 16 field. */

import { svg } from "./elements.js";

const PATHS = {
  waiting: "M8 4.5V8l2.2 1.6M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  sent: "M3.5 8.5 6.6 11.5 12.5 5",
  safe: "M1.5 8.5 4.6 11.5 10.5 5M7.6 10.6l.9.9L14.5 5",
  failed: "M8 4.6v4.2M8 11.2v.2M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  send: "M8 13V3.5M3.8 7.4 8 3.2l4.2 4.2",
  frames: "M5.5 3.5 1.8 8l3.7 4.5M10.5 3.5 14.2 8l-3.7 4.5",
  close: "M4 4l8 8M12 4l-8 8",
  down: "M8 3v9.5M3.8 8.6 8 12.8l4.2-4.2",
  copy: "M5.5 5.5h7v7h-7zM3.5 10.5v-7h7",
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  const path = svg("path", { d: PATHS[name] });
  return svg("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
}
