/**
 * Tells screen readers what happened, once it is worth telling: a whole answer rather than each of its parts.
 */

import { h } from "./elements.js";

const MOST_CHARACTERS = 4000;

export class Announcer {
  element = h("div", { class: "unseen", "aria-live": "polite", "aria-atomic": "false", role: "log" });

  /** @param {string} sentence */
  say(sentence) {
    const isLong = sentence.length > MOST_CHARACTERS;
    this.element.append(h("p", {}, isLong ? `${sentence.slice(0, MOST_CHARACTERS)}…` : sentence));
    while (this.element.children.length > 5) this.element.firstElementChild?.remove();
  }
}
