/** The channels drawn as the map of a small railway: from you to the guide, and on to each pillar. */

import { wordsFor } from "../model/channel_words.js";
import { svg } from "./elements.js";

const ROW = 44;
const WIDTH = 460;
const YOU = 20;
const HUB = 140;
const BRANCH = 250;

/** @param {string[]} channels the guide first */
export function cityMap([hub = "guide", ...branches]) {
  const height = Math.max(2, branches.length) * ROW;
  const middle = height / 2;
  const top = middle - ((branches.length - 1) * ROW) / 2;
  return svg("svg", { class: "map", viewBox: `0 0 ${WIDTH} ${height}`, "aria-hidden": "true" },
    svg("path", { class: "rail", "data-line": "guide", d: `M${YOU} ${middle}H${HUB}` }),
    ...branches.map((channel, index) => rail(channel, middle, top + index * ROW)),
    svg("circle", { class: "station", "data-line": "guide", cx: YOU, cy: middle, r: 6 }),
    svg("text", { x: YOU, y: middle - 22, "text-anchor": "middle" }, "You"),
    svg("circle", { class: "hub", "data-line": "guide", cx: HUB, cy: middle, r: 11 }),
    svg("text", { x: HUB, y: middle - 22, "text-anchor": "middle" }, wordsFor(hub).title),
    ...branches.map((channel, index) => stop(channel, top + index * ROW)));
}

/**
 * @param {string} channel
 * @param {number} from
 * @param {number} to
 */
function rail(channel, from, to) {
  const bend = (HUB + BRANCH) / 2;
  return svg("path", {
    class: "rail", "data-line": wordsFor(channel).line,
    d: `M${HUB} ${from}C${bend} ${from} ${bend - 20} ${to} ${BRANCH} ${to}h28`,
  });
}

/**
 * @param {string} channel
 * @param {number} y
 */
function stop(channel, y) {
  const { title, line } = wordsFor(channel);
  return svg("g", {},
    svg("circle", { class: "station", "data-line": line, cx: BRANCH + 28, cy: y, r: 6 }),
    svg("text", { x: BRANCH + 46, y: y + 5 }, title));
}
