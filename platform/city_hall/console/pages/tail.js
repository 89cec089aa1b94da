/**
 * What is published on a channel from a position on, as it happens: through reconnections, with nothing missed or
 * with a word of what was. Paused, it takes nothing; what was published meanwhile comes afterwards.
 */

import { City } from "../client/index.js";
import { describe } from "../model/link_words.js";
import { entryOfMessage } from "../model/log_entry.js";
import { gapInWords, sentenceOf } from "../model/words.js";
import { h } from "../ui/elements.js";

/** @import { Position } from "../client/index.js" */
/** @import { Place } from "./place.js" */
/** @import { Publications } from "./publications.js" */

const TICK_MS = 500;

export class Tail {
  #word = h("span");
  #link = h("span", { class: "link" }, h("span", { class: "light" }), this.#word);
  #pause = h("button", { type: "button", class: "small", onclick: () => this.#togglePause() }, "Pause");
  /** How it is doing, and a way to stop and go on. */
  element = h("span", { class: "tail", hidden: true }, this.#link, this.#pause);

  #place;
  #publications;
  #isPaused = false;
  #goOn = () => {};

  /**
   * @param {Place} place
   * @param {Publications} publications
   */
  constructor(place, publications) {
    this.#place = place;
    this.#publications = publications;
  }

  /**
   * @param {string} channel
   * @param {Position} since
   */
  async follow(channel, since) {
    const { access, signal } = this.#place;
    const city = new City(undefined, { token: access.token });
    const ticking = setInterval(() => this.#tell(city), TICK_MS);
    signal.addEventListener("abort", () => {
      clearInterval(ticking);
      city.close();
    });
    this.element.hidden = false;
    this.#tell(city);
    try {
      for await (const message of city.listen(channel, { since, signal })) {
        while (this.#isPaused) await new Promise((resolve) => (this.#goOn = () => resolve(undefined)));
        if (signal.aborted) return;
        if (message.gap) this.#publications.gap(`Some publications are missing: ${gapInWords(message.gap.reason)}.`);
        this.#publications.add(entryOfMessage(message));
      }
    } catch (error) {
      this.#publications.gap(sentenceOf(error));
    }
  }

  /** @param {City} city */
  #tell(city) {
    const { light, word } = describe(city.state, Date.now());
    this.#link.dataset.light = light;
    const told = this.#isPaused ? "Paused" : word === "Connected" ? "Live" : word;
    if (this.#word.textContent !== told) this.#word.textContent = told;
  }

  #togglePause() {
    this.#isPaused = !this.#isPaused;
    this.#pause.textContent = this.#isPaused ? "Go on" : "Pause";
    this.#word.textContent = this.#isPaused ? "Paused" : "Live";
    if (!this.#isPaused) this.#goOn();
  }
}
