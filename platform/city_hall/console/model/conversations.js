/** One conversation for each channel, under an id that means nothing to anybody else. */

import { newKey } from "../client/index.js";

export class Conversations {
  /** @type {Map<string, string>} */
  #ids;

  /** @param {Iterable<[string, string]>} kept from an earlier life of the page */
  constructor(kept = []) {
    this.#ids = new Map(kept);
  }

  /** @param {string} channel */
  of(channel) {
    const id = this.#ids.get(channel) ?? newKey();
    this.#ids.set(channel, id);
    return id;
  }

  /** @returns {[string, string][]} */
  all() {
    return [...this.#ids];
  }
}
