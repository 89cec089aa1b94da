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
  channels: "M2.5 4.5h11M2.5 8h11M2.5 11.5h7",
  connections: "M5.2 6.2a2.2 2.2 0 1 1 0-.1M13.8 6.2a2.2 2.2 0 1 1 0-.1M5.2 6h4.2M3 8.2v4.3M11.6 8.2v4.3",
  queues: "M2.5 3.5h11v3h-11zM2.5 9.5h11v3h-11zM4.5 5h2M4.5 11h4",
  sessions: "M8 8.2a2.6 2.6 0 1 0 0-5.2 2.6 2.6 0 0 0 0 5.2ZM3 13.5c.6-2.6 2.5-4 5-4s4.4 1.4 5 4",
  traffic: "M2.5 13V9.500M6.2 13V5M9.9 13V7.500M13.5 13V3",
  operations: "M6 3 2.5 8 6 13M10 3l3.5 5L10 13",
  key: "M8.5 6.2 13.5 11.2v2.3h-2.3v-1.6H9.6v-1.6L7.8 8.5M8.7 5.5a3.2 3.2 0 1 1-6.4 0 3.2 3.2 0 0 1 6.4 0Z",
};

/** @typedef {keyof typeof PATHS} IconName */

/** @param {IconName} name */
export function icon(name) {
  const path = svg("path", { d: PATHS[name] });
  return svg("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
}
