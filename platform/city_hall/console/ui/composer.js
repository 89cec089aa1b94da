/**
 * The field one writes in. Each channel keeps its own draft; what is sent, and when, is the client's business.
 */

import { wordsFor } from "../model/channel_words.js";
import { MOST_WAITING } from "../model/outbox.js";
import { counted } from "../model/words.js";
import { h } from "./elements.js";
import { icon } from "./icons.js";

/** @import { Talk } from "../model/talk.js" */

export class Composer {
  #field = h("textarea", {
    id: "message", rows: 1, "aria-describedby": "composer-hint", autocomplete: "off", enterkeyhint: "send",
    onkeydown: (/** @type {KeyboardEvent} */ event) => this.#pressed(event), oninput: () => this.#changed(),
  });
  #button = h("button", { class: "send", type: "submit", "aria-label": "Send", disabled: true },
    icon("send"));
  #hint = h("p", { id: "composer-hint", class: "hint" });
  element = h("form", { class: "composer", onsubmit: (/** @type {Event} */ event) => this.#submit(event) },
    h("div", { class: "field" }, this.#field, this.#button), this.#hint);

  #talk;
  #channel = "";
  /** @type {Map<string, string>} */
  #drafts = new Map();

  /** @param {Talk} talk */
  constructor(talk) {
    this.#talk = talk;
    talk.city.on("state", () => this.#tell());
    talk.outbox.changed.listen(() => this.#tell());
  }

  /** @param {string} channel */
  show(channel) {
    this.#drafts.set(this.#channel, this.#field.value);
    this.#channel = channel;
    const { title } = wordsFor(channel);
    this.#field.setAttribute("aria-label", `Message to ${title}`);
    this.#field.placeholder = `Ask ${title}`;
    this.#field.value = this.#drafts.get(channel) ?? "";
    this.#changed();
    this.#tell();
  }

  focus() {
    this.#field.focus();
  }

  /** Sends a text as if it had been typed. @param {string} text */
  say(text) {
    if (text.trim() && this.#talk.say(this.#channel, text.trim())) return true;
    this.#tell();
    return false;
  }

  /** @param {Event} event */
  #submit(event) {
    event.preventDefault();
    if (this.say(this.#field.value)) this.#field.value = "";
    this.#changed();
    this.focus();
  }

  /** Enter sends; Shift+Enter is a new line, and so is Enter while an input method is composing. */
  #pressed(/** @type {KeyboardEvent} */ event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.#submit(event);
  }

  #changed() {
    const lines = this.#field.value.split("\n").length;
    this.#field.rows = Math.min(8, lines);
    this.#button.disabled = !this.#field.value.trim();
  }

  #tell() {
    const { city, outbox } = this.#talk;
    const waiting = outbox.waiting;
    const isAway = city.state.phase !== "connected";
    this.#hint.textContent = outbox.isFull ? `${MOST_WAITING} messages wait already; no more are taken now.`
      : isAway && waiting > 0 ? `${counted(waiting, "message")} will be sent once the connection is back.`
      : isAway ? "Not connected: what you write waits, and is sent then."
      : "Enter sends, Shift + Enter starts a new line";
  }
}
