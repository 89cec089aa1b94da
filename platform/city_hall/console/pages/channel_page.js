/** One channel: what was published, page by page into the past, what is published now, and a way to publish. */

import { entryOfHistory } from "../model/log_entry.js";
import { grouped } from "../model/measures.js";
import { addressOf } from "../model/routes.js";
import { Watch } from "../model/watch.js";
import { sentenceOf } from "../model/words.js";
import { h } from "../ui/elements.js";
import { live } from "../ui/live.js";
import { sheet } from "./place.js";
import { A_PAGE, Publications } from "./publications.js";
import { publishForm } from "./publish_form.js";
import { Tail } from "./tail.js";

/** @import { HistoryEntry } from "../model/log_entry.js" */
/** @import { Place } from "./place.js" */

const HISTORY = "post_office.history";
const FIGURES_EVERY_MS = 5000;

/**
 * @param {Place} place
 * @param {string} channel
 */
export function channelPage(place, channel) {
  return sheet({ title: channel, about: "", back: { href: "#/channels", label: "Channels" } },
    figures(place, channel),
    h("section", { "aria-label": "Publish" }, h("h2", {}, "Publish"), publishForm(place, channel)),
    h("section", { "aria-label": "Log" }, ...log(place, channel)));
}

/**
 * @param {Place} place
 * @param {string} channel
 */
function figures(place, channel) {
  const who = h("a", { href: addressOf("connections", "", { channel }) });
  const waiting = h("dd");
  const newest = h("dd");
  /** @param {string} name @param {object} [args] @param {AbortSignal} [signal] */
  const ask = (name, args, signal) => place.access.call(`post_office.${name}`, args, { signal });
  const watch = new Watch(async (signal) => {
    const [listed, queues] = await Promise.all([
      ask("list_channels", {}, signal), ask("get_queue_status", { channel }, signal),
    ]);
    const found = listed.channels.find((/** @type {{ channel: string }} */ one) => one.channel === channel);
    return { ...found, ...queues.channels[channel] };
  }, { every: FIGURES_EVERY_MS, clock: place.clock });
  const content = h("dl", { class: "figures" },
    h("div", {}, h("dt", {}, "Subscribers"), h("dd", {}, who)), h("div", {}, h("dt", {}, "Newest position"), newest),
    h("div", {}, h("dt", {}, "Waiting for agents"), waiting));
  return live(place, watch, content, (told) => {
    who.textContent = grouped(told.subscribers);
    newest.textContent = told.offset ? `${told.offset}.${told.epoch}` : "–";
    waiting.textContent = `${grouped(told.depth)} · ${told.consumers === 1 ? "1 agent" : `${told.consumers} agents`}`;
  });
}

/** @typedef {{ publications: HistoryEntry[], offset: number, epoch: string, oldest: number }} History */

/** @param {History} history */
function pageOf({ publications, oldest }) {
  return { publications: publications.map(entryOfHistory), oldest };
}

/**
 * @param {Place} place
 * @param {string} channel
 */
function log(place, channel) {
  if (!place.access.has(HISTORY)) {
    return [
      h("h2", {}, "Log"),
      h("p", { class: "hint" }, "To read the log, a token needs the scope ", h("code", {}, HISTORY), "."),
    ];
  }
  /** @param {number} [before] @returns {Promise<History>} */
  const read = (before) => place.access.call("post_office.get_channel_history",
    { channel, limit: A_PAGE, ...(before ? { before } : {}) }, { signal: place.signal });
  const publications = new Publications(async (offset) => {
    try {
      return pageOf(await read(offset));
    } catch (error) {
      if (!place.signal.aborted) place.toast(sentenceOf(error), "bad");
      return null;
    }
  });
  const watch = new Watch(() => read(), { every: 0, clock: place.clock });
  const tail = new Tail(place, publications);
  const body = live(place, watch, publications.element, (newest) => {
    publications.begin(pageOf(newest));
    tail.follow(channel, { offset: newest.offset, epoch: newest.epoch });
  });
  return [h("div", { class: "section-head" }, h("h2", {}, "Log"), tail.element), body];
}
