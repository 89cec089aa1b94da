/** One channel: what was published, page by page into the past, what is published now, and a way to publish. */

import { sheet } from "./place.js";

/** @import { Place } from "./place.js" */

/**
 * @param {Place} place
 * @param {string} channel
 */
export function channelPage(place, channel) {
  void place;
  return sheet({ title: channel, about: "", back: { href: "#/channels", label: "Channels" } });
}
