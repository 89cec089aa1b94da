/**
 * The publications of a log on a page, the newest first: read page by page into the past, and added to while more
 * is published. It keeps a bounded number of rows.
 */

import { lineOf } from "../model/log_entry.js";
import { copyButton } from "../ui/copy.js";
import { exactClock, h } from "../ui/elements.js";
import { nothing } from "./place.js";

/** @import { LogEntry } from "../model/log_entry.js" */

/**
 * @typedef {{ publications: LogEntry[], oldest: number }} Page  oldest first, and the offset of the oldest that is kept.
 *   A page of large ones holds fewer than were asked for, and says nothing of where the log begins.
 */

export const A_PAGE = 50;
const MOST_ROWS = 2000;
const MOST_SHOWN = 160;

export class Publications {
  #list = h("ol", { class: "log", "aria-label": "Publications, newest first" });
  #older = h("button", { type: "button", hidden: true, onclick: () => this.#goBack() }, "Older");
  #end = h("p", { class: "hint end", hidden: true }, "The log begins here.");
  #empty = nothing("Nothing has been published yet.");
  #readBefore;
  #isEmpty = true;
  /** @type {LogEntry[]} */
  #fresh = [];
  #isPlanned = false;
  element;

  /**
   * @param {(offset: number) => Promise<Page | null>} readBefore a page that ends before the offset; null when it
   *   cannot be had
   */
  constructor(readBefore) {
    this.#readBefore = readBefore;
    this.element = h("div", { class: "publications" }, this.#empty, this.#list,
      h("div", { class: "more" }, this.#older, this.#end));
  }

  /** The page of the newest. @param {Page} page */
  begin(page) {
    this.#list.replaceChildren();
    this.#isEmpty = true;
    this.#append(page);
  }

  /** One more was published; those of one moment are drawn together. @param {LogEntry} entry */
  add(entry) {
    this.#fresh.push(entry);
    if (this.#fresh.length > MOST_ROWS) this.#fresh.shift();
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    requestAnimationFrame(() => this.#drawFresh());
  }

  #drawFresh() {
    const rows = this.#fresh.reverse().map(rowOf);
    this.#fresh = [];
    this.#isPlanned = this.#isEmpty = false;
    this.#empty.hidden = true;
    for (const row of rows) row.classList.add("fresh");
    this.#list.prepend(...rows);
    this.#cut();
  }

  /** What is cut off at the old end is not gone back to: it would be cut off again. */
  #cut() {
    if (this.#list.children.length <= MOST_ROWS) return;
    while (this.#list.children.length > MOST_ROWS) this.#list.lastElementChild?.remove();
    this.#older.hidden = this.#end.hidden = true;
  }

  /** Something is missing between what stands here and what comes. @param {string} sentence */
  gap(sentence) {
    if (this.#fresh.length > 0) this.#drawFresh();
    this.#list.prepend(h("li", { class: "gap-note" }, sentence));
  }

  async #goBack() {
    const oldest = [...this.#list.querySelectorAll("[data-offset]")].at(-1)?.getAttribute("data-offset");
    this.#older.disabled = true;
    const page = await this.#readBefore(Number(oldest));
    this.#older.disabled = false;
    if (page) this.#append(page);
  }

  /** @param {Page} page older than all that stand here */
  #append({ publications, oldest }) {
    this.#list.append(...publications.toReversed().map(rowOf));
    this.#isEmpty &&= publications.length === 0;
    const isWhole = (publications[0]?.offset ?? 0) <= oldest;
    this.#empty.hidden = !this.#isEmpty;
    this.#older.hidden = isWhole || this.#list.children.length >= MOST_ROWS;
    this.#end.hidden = !isWhole || this.#isEmpty;
  }
}

/** @param {LogEntry} entry */
function rowOf(entry) {
  const { offset, epoch, sender, payload, intent, messageId, timestamp } = entry;
  const said = lineOf(entry);
  const details = h("details", { ontoggle: () => open(details, payload) },
    h("summary", {},
      h("span", { class: "offset" }, String(offset)),
      h("time", { datetime: timestamp, title: timestamp }, exactClock(Date.parse(timestamp))),
      h("span", { class: "from", "data-kind": sender.kind }, sender.id),
      h("span", { class: "said" }, said.length > MOST_SHOWN ? `${said.slice(0, MOST_SHOWN)}…` : said)),
    h("dl", { class: "facts" },
      ...fact("Position", `${offset}.${epoch}`), ...fact("Message", messageId), ...fact("Sender", sender.kind),
      ...(intent ? fact("Intent", intent) : [])));
  return h("li", { "data-offset": offset }, details);
}

/**
 * @param {string} name
 * @param {string} value
 */
function fact(name, value) {
  return [h("dt", {}, name), h("dd", {}, h("code", {}, value))];
}

/**
 * The whole payload, formatted when somebody wants to see it.
 *
 * @param {HTMLDetailsElement} details
 * @param {object} payload
 */
function open(details, payload) {
  if (!details.open || details.querySelector("pre")) return;
  const body = h("pre", { tabindex: "0" }, JSON.stringify(payload, null, 2));
  details.append(h("div", { class: "payload" }, copyButton(body), body));
}
