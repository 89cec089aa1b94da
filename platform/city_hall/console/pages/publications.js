/**
 * The publications of a log on a page, the newest first: read page by page into the past, and added to while more
 * is published. It keeps a bounded number of rows.
 */

import { exactClock, h } from "../ui/elements.js";
import { copyButton } from "../ui/copy.js";
import { nothing } from "./place.js";

/** @import { Publication } from "../client/protocol.js" */

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
  element;

  /**
   * @param {(offset: number) => Promise<Publication[]>} readBefore a page that ends before the offset, oldest first
   */
  constructor(readBefore) {
    this.#readBefore = readBefore;
    this.element = h("div", { class: "publications" }, this.#empty, this.#list,
      h("div", { class: "more" }, this.#older, this.#end));
  }

  /** The page of the newest. @param {Publication[]} publications oldest first */
  begin(publications) {
    this.#list.replaceChildren();
    this.#isEmpty = true;
    this.#append(publications);
  }

  /** One more was published. @param {Publication} publication */
  add(publication) {
    this.#isEmpty = false;
    this.#empty.hidden = true;
    const row = rowOf(publication);
    row.classList.add("fresh");
    this.#list.prepend(row);
    while (this.#list.children.length > MOST_ROWS) this.#list.lastElementChild?.remove();
  }

  /** Something is missing between what stands here and what comes. @param {string} sentence */
  gap(sentence) {
    this.#list.prepend(h("li", { class: "gap-note" }, sentence));
  }

  async #goBack() {
    const last = this.#list.querySelector("li:last-child");
    this.#older.disabled = true;
    try {
      this.#append(await this.#readBefore(Number(last?.getAttribute("data-offset"))));
    } finally {
      this.#older.disabled = false;
    }
  }

  /** @param {Publication[]} publications older than all that stand here, oldest first */
  #append(publications) {
    this.#list.append(...publications.toReversed().map(rowOf));
    this.#isEmpty &&= publications.length === 0;
    const isWhole = publications.length < A_PAGE || publications[0]?.offset === 1;
    this.#empty.hidden = !this.#isEmpty;
    this.#older.hidden = isWhole || this.#list.children.length >= MOST_ROWS;
    this.#end.hidden = !isWhole || this.#isEmpty;
  }
}

/** @param {Publication} publication */
function rowOf({ offset, epoch, sender, payload, intent, message_id, timestamp }) {
  const said = typeof payload.message === "string" ? payload.message : JSON.stringify(payload);
  const details = h("details", { ontoggle: () => open(details, payload) },
    h("summary", {},
      h("span", { class: "offset" }, String(offset)),
      h("time", { datetime: timestamp, title: timestamp }, exactClock(Date.parse(timestamp))),
      h("span", { class: "from", "data-kind": sender.kind }, sender.id),
      h("span", { class: "said" }, said.length > MOST_SHOWN ? `${said.slice(0, MOST_SHOWN)}…` : said)),
    h("dl", { class: "facts" },
      ...fact("Position", `${offset}.${epoch}`), ...fact("Message", message_id), ...fact("Sender", sender.kind),
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
