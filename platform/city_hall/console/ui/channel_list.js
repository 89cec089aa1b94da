/** The channels as stops on a line, with how much is unread on each. */

import { wordsFor } from "../model/channel_words.js";
import { FOR_YOU } from "../model/places.js";
import { counted } from "../model/words.js";
import { h } from "./elements.js";
import { linkTo } from "./route.js";

/** @import { Talk } from "../model/talk.js" */
/** @import { Item } from "../model/threads.js" */

/**
 * @typedef {{ element: HTMLElement, link: HTMLAnchorElement, badge: HTMLElement, unread: Set<string> }} Stop
 */

const MOST_COUNTED = 100;

export class ChannelList {
  #list = h("ul", { class: "stops" });
  element = h("nav", { class: "channels", "aria-label": "Channels" }, this.#list);
  /** @type {Map<string, Stop>} */
  #stops = new Map();
  #current = "";
  #talk;

  /**
   * @param {string[]} channels
   * @param {Talk} talk
   */
  constructor(channels, talk) {
    this.#talk = talk;
    for (const channel of [...channels, FOR_YOU]) this.#add(channel);
    talk.threads.changed.listen(({ channel, item, isNew }) => this.#noticed(channel, item, isNew));
  }

  /** How much is unread on all channels together. */
  get unread() {
    return [...this.#stops.values()].reduce((sum, { unread }) => sum + unread.size, 0);
  }

  /** @param {string} channel */
  show(channel) {
    this.#stops.get(this.#current)?.link.removeAttribute("aria-current");
    this.#current = channel;
    const stop = this.#stops.get(channel);
    stop?.link.setAttribute("aria-current", "page");
    stop?.link.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.#read(channel);
  }

  /** @param {string} channel */
  #add(channel) {
    const { title, line } = wordsFor(channel);
    const badge = h("span", { class: "badge", hidden: true });
    const link = h("a", { href: linkTo(channel), "data-line": line },
      h("span", { class: "stop" }), h("span", { class: "title" }, title), badge);
    const element = h("li", { hidden: channel === FOR_YOU }, link);
    this.#stops.set(channel, { element, link, badge, unread: new Set() });
    this.#list.append(element);
  }

  /**
   * @param {string} channel
   * @param {Item} item
   * @param {boolean} isNew
   */
  #noticed(channel, item, isNew) {
    const stop = this.#stops.get(channel);
    if (stop?.unread.has(item.id) && !this.#talk.threads.of(channel).includes(item)) {
      stop.unread.delete(item.id);
      this.#mark(stop);
    }
    if (!stop || !isNew || item.kind === "question") return;
    stop.element.hidden = false;
    if (channel === this.#current && !document.hidden) return;
    if (stop.unread.size < MOST_COUNTED) stop.unread.add(item.id);
    this.#mark(stop);
  }

  /** @param {string} channel */
  #read(channel) {
    const stop = this.#stops.get(channel);
    if (!stop) return;
    stop.unread.clear();
    this.#mark(stop);
  }

  /** The page is looked at again. */
  lookedAt() {
    this.#read(this.#current);
  }

  /** @param {Stop} stop */
  #mark({ badge, unread }) {
    badge.hidden = unread.size === 0;
    badge.textContent = unread.size < MOST_COUNTED ? String(unread.size) : `${MOST_COUNTED - 1}+`;
    badge.setAttribute("aria-label", `${counted(unread.size, "unread message")}`);
  }
}
