/**
 * The conversation of one channel on the page: draws what changed once a frame, keeps the order, follows the
 * end unless the reader has scrolled away.
 */

import { wordsFor } from "../model/channel_words.js";
import { h } from "./elements.js";
import { icon } from "./icons.js";
import { drawItem } from "./thread_items.js";

/** @import { Talk } from "../model/talk.js" */
/** @import { Drawn } from "./thread_items.js" */

/** Pixels from the end within which a reader is taken to be at the end. */
const NEAR_END = 96;

export class ThreadView {
  #items = h("div", { class: "items" });
  #toEnd = h("button", { class: "to-end", hidden: true, onclick: () => this.#scrollToEnd() },
    icon("down"), "New messages");
  #scroller = h("div", { class: "scroller", tabindex: "-1", onscroll: () => this.#scrolled() }, this.#items);
  element = h("section", { class: "thread", "aria-label": "Conversation" }, this.#scroller, this.#toEnd);

  #talk;
  #ask;
  #channel = "";
  /** @type {Map<string, Drawn>} */
  #drawn = new Map();
  /** @type {Set<string>} */
  #stale = new Set();
  #isPlanned = false;
  #followsEnd = true;

  /**
   * @param {Talk} talk
   * @param {(text: string) => void} ask what a suggested question does
   */
  constructor(talk, ask) {
    this.#talk = talk;
    this.#ask = ask;
    new ResizeObserver(() => this.#followsEnd && this.#scrollToEnd()).observe(this.#scroller);
    talk.threads.changed.listen(({ channel, item, isNew }) => {
      if (channel !== this.#channel) return;
      if (isNew && item.kind === "question") this.#followsEnd = true;
      this.#stale.add(item.id);
      this.#plan();
    });
  }

  /** @param {string} channel */
  show(channel) {
    this.#channel = channel;
    this.#drawn.clear();
    this.#stale.clear();
    this.#items.replaceChildren();
    this.#followsEnd = true;
    this.#draw();
  }

  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    requestAnimationFrame(() => {
      this.#isPlanned = false;
      this.#draw();
    });
  }

  #draw() {
    const items = this.#talk.threads.of(this.#channel);
    const elements = items.map((item) => {
      const known = this.#drawn.get(item.id);
      if (known && this.#stale.has(item.id)) known.update();
      const drawn = known ?? drawItem(item, this.#actions);
      this.#drawn.set(item.id, drawn);
      return drawn.element;
    });
    this.#arrange(items.length > 0 ? elements : [this.#opening()]);
    this.#forget(new Set(items.map(({ id }) => id)));
    this.#stale.clear();
    if (this.#followsEnd) this.#scrollToEnd();
    else this.#toEnd.hidden = false;
  }

  /** Brings the elements into order and moves only those that are out of it. @param {Element[]} elements */
  #arrange(elements) {
    elements.forEach((element, index) => {
      const there = this.#items.children[index] ?? null;
      if (there !== element) this.#items.insertBefore(element, there);
    });
    while (this.#items.children.length > elements.length) this.#items.lastElementChild?.remove();
  }

  /** @param {Set<string>} ids that still stand in the thread */
  #forget(ids) {
    for (const id of this.#drawn.keys()) if (!ids.has(id)) this.#drawn.delete(id);
  }

  #opening() {
    const { opening, questions } = wordsFor(this.#channel);
    return h("div", { class: "opening" },
      h("p", { class: "headline" }, opening),
      h("ul", { class: "questions" }, ...questions.map((text) =>
        h("li", {}, h("button", { onclick: () => this.#ask(text) }, text)))));
  }

  #actions = {
    /** @param {string} key */
    sendAgain: (key) => this.#talk.outbox.sendAgain(key),
    /** @param {string} question */
    stop: (question) => this.#talk.city.stop(question),
    /** @param {import("../model/outbox.js").Message} message */
    discard: (message) => {
      this.#talk.outbox.discard(message.key);
      this.#talk.threads.remove(message.channel, message.key);
    },
  };

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#followsEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
    if (this.#followsEnd) this.#toEnd.hidden = true;
  }

  #scrollToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#toEnd.hidden = true;
  }
}
