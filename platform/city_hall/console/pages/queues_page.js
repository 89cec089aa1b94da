/**
 * The agents' inboxes: how much waits, for how long, and whether anybody takes it. The dead letters of each have a page of
 * their own.
 */

import { grouped, span } from "../model/measures.js";
import { addressOf } from "../model/routes.js";
import { Watch } from "../model/watch.js";
import { h } from "../ui/elements.js";
import { live } from "../ui/live.js";
import { Table } from "../ui/table.js";
import { lettersPage } from "./letters_page.js";
import { nothing, sheet } from "./place.js";

/** @import { Place } from "./place.js" */

/**
 * @typedef {{
 *   channel: string, depth: number, capacity: number, oldest_age_seconds?: number, consumers: number,
 *   circuit: "closed" | "open" | "half_open", dead_letters: number,
 * }} Queue
 */

const CIRCUITS = {
  closed: { words: "all", tone: "" },
  half_open: { words: "a few, to see how it goes", tone: "trying" },
  open: { words: "none for now", tone: "bad" },
};

const EVERY_MS = 2000;
const OLD_SECONDS = 30;

/** @param {Place} place */
export function queuesPage(place) {
  if (place.route.rest) return lettersPage(place, place.route.rest);
  /** @type {Watch<Queue[]>} */
  const watch = new Watch(async (signal) => {
    const { channels } = await place.access.call("post_office.get_queue_status", {}, { signal });
    return Object.entries(channels).map(([channel, queue]) => ({ channel, ...queue }));
  }, { every: EVERY_MS, clock: place.clock });
  const table = queueTable();
  return sheet({ title: "Queues", about: "What people have asked and no agent has finished" },
    live(place, watch, table.element, (queues) => table.show(queues)));
}

function queueTable() {
  /** @type {Table<Queue>} */
  const table = new Table({
    caption: "Inboxes of the agent channels",
    key: ({ channel }) => channel,
    empty: nothing("There is no agent channel."),
    columns: [
      { title: "Inbox", node: (now) => h("a", { href: addressOf("channels", now().channel) }, now().channel) },
      { title: "Filled", node: gauge, renew: renewGauge },
      {
        title: "Oldest", kind: "number",
        text: ({ oldest_age_seconds: age }) => (age === undefined ? "–" : span(age)),
        tone: ({ oldest_age_seconds: age = 0 }) => (age > OLD_SECONDS ? "trying" : ""),
      },
      {
        title: "Agents", kind: "number", text: ({ consumers }) => (consumers > 0 ? grouped(consumers) : "nobody"),
        tone: ({ consumers, depth }) => (consumers > 0 ? "" : depth > 0 ? "bad" : "trying"),
      },
      {
        title: "Takes", text: ({ circuit }) => CIRCUITS[circuit].words,
        tone: ({ circuit }) => CIRCUITS[circuit].tone,
      },
      {
        title: "Dead letters", kind: "number", node: letters, text: ({ dead_letters: n }) => (n > 0 ? grouped(n) : "none"),
        tone: ({ dead_letters: n }) => (n > 0 ? "trying" : ""),
      },
    ],
  });
  return table;
}

/** Leads to them. @param {() => Queue} now */
function letters(now) {
  return h("a", { href: addressOf("queues", now().channel) });
}

/** @param {() => Queue} now */
function gauge(now) {
  const { channel } = now();
  return h("span", { class: "gauge" }, h("meter", { min: 0, "aria-label": `Filled of ${channel}` }), h("span"));
}

/**
 * @param {HTMLElement} element
 * @param {Queue} queue
 */
function renewGauge(element, { depth, capacity }) {
  const [meter, words] = element.children;
  if (meter instanceof HTMLMeterElement) Object.assign(meter, { max: capacity, high: capacity * 0.8, value: depth });
  if (words) words.textContent = `${grouped(depth)} of ${grouped(capacity)}`;
}
