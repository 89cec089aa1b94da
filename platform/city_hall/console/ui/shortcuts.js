/** Keys that lead somewhere, and the sheet that tells of them. None does anything while somebody is typing. */

import { addressOf } from "../model/routes.js";
import { openDialog } from "./dialog.js";
import { h } from "./elements.js";

/** @import { Entry } from "../pages/directory.js" */

const SECOND_KEY_MS = 1500;
const TYPED_IN = "input, textarea, select, [contenteditable]";

export class Shortcuts {
  /** @type {Map<string, { title: string, address: string }>} what follows a g */
  #places;
  #isGoing = false;
  #timer = 0;

  /** @param {Entry[]} directory */
  constructor(directory) {
    this.#places = new Map([
      ["h", { title: "Talk", address: "#/chat" }],
      ...directory.map(({ key, title, page }) =>
        /** @type {const} */ ([key, { title, address: addressOf(page) }])),
    ]);
  }

  listen() {
    addEventListener("keydown", (event) => this.#pressed(event));
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const { key, target } = event;
    const isTyping = target instanceof Element && target.closest(TYPED_IN);
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (this.#isGoing) this.#go(key);
    else if (key === "g") this.#expectPlace();
    else if (key === "?") this.#help();
    else if (key === "/") this.#filter(event);
  }

  #expectPlace() {
    this.#isGoing = true;
    this.#timer = setTimeout(() => (this.#isGoing = false), SECOND_KEY_MS);
  }

  /** @param {string} key */
  #go(key) {
    this.#isGoing = false;
    clearTimeout(this.#timer);
    const place = this.#places.get(key);
    if (place) location.hash = place.address;
  }

  /** @param {KeyboardEvent} event */
  #filter(event) {
    const field = document.querySelector(/** @type {"input"} */ ("[data-filter], textarea"));
    if (!field?.checkVisibility()) return;
    event.preventDefault();
    field.focus();
  }

  #help() {
    const rows = [...this.#places].map(([key, { title }]) => row([["g"], [key]], title));
    openDialog({
      title: "Keys",
      content: [
        h("dl", { class: "keys" }, ...rows.flat(),
          ...row([["/"]], "Filter, or write"), ...row([["?"]], "This sheet"),
          ...row([["Enter"]], "Send what is written"), ...row([["Shift", "Enter"]], "A new line"),
          ...row([["Esc"]], "Close what is open")),
      ],
    });
  }
}

/**
 * @param {string[][]} strokes one after the other, each perhaps of several keys at once
 * @param {string} meaning
 */
function row(strokes, meaning) {
  const keys = strokes.flatMap((stroke, index) => [
    index > 0 ? " then " : null,
    ...stroke.flatMap((key, place) => [place > 0 ? " + " : null, h("kbd", {}, key)]),
  ]);
  return [h("dt", {}, ...keys), h("dd", {}, meaning)];
}
