/** The channels: who listens, and how far each log has come. One of them has a page of its own. */

import { grouped } from "../model/measures.js";
import { addressOf } from "../model/routes.js";
import { Watch } from "../model/watch.js";
import { h } from "../ui/elements.js";
import { live } from "../ui/live.js";
import { Table } from "../ui/table.js";
import { channelPage } from "./channel_page.js";
import { nothing, sheet } from "./place.js";

/** @import { Place } from "./place.js" */

/**
 * @typedef {{
 *   channel: string, kind: string, kept: string, subscribers: number, offset: number, epoch: string,
 * }} Channel
 */

const EVERY_MS = 3000;

/** @param {Place} place */
export function channelsPage(place) {
  if (place.route.rest) return channelPage(place, place.route.rest);
  /** @type {Watch<Channel[]>} */
  const watch = new Watch(
    async (signal) => (await place.access.call("post_office.list_channels", {}, { signal })).channels,
    { every: EVERY_MS, clock: place.clock });
  const table = channelTable();
  return sheet({ title: "Channels", about: "Every channel is a log; a position is a place in it" },
    live(place, watch, table.element, (channels) => table.show(channels)));
}

function channelTable() {
  /** @type {Table<Channel>} */
  const table = new Table({
    caption: "Channels",
    key: ({ channel }) => channel,
    empty: nothing("There is no channel."),
    columns: [
      { title: "Channel", node: (now) => h("a", { href: addressOf("channels", now().channel) }, now().channel) },
      { title: "Subscribers", kind: "number", node: subscribers, text: ({ subscribers: n }) => grouped(n) },
      { title: "Newest position", kind: "code", text: ({ offset, epoch }) => (offset ? `${offset}.${epoch}` : "–") },
      { title: "Published", kind: "number", text: ({ offset }) => grouped(offset) },
      { title: "Keeps", text: ({ kept }) => kept },
    ],
  });
  return table;
}

/** Leads to who they are. @param {() => Channel} now */
function subscribers(now) {
  return h("a", { href: addressOf("connections", "", { channel: now().channel }) });
}
