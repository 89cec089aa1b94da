/** What one page has sent and not heard the end of: each letter with the promise that waits for it. */

import { deferred } from "./deferred.js";
import { CityError } from "./errors.js";

/** @import { Deferred } from "./deferred.js" */
/** @import { Letter, ProgressNews } from "./outgoing.js" */
/** @import { MessageFrame, Position } from "./protocol.js" */

/**
 * @typedef {{
 *   status: string, messageId: string, channel: string, key: string, position: Position | null,
 *   isDuplicate: boolean,
 * }} Acknowledged  `status`: "queued" for the agents, "published" at `position`, "stored"
 * @typedef {{ letter: Letter, promised: Deferred<Acknowledged> }} Unsettled
 */

export class Letters {
  /** By the ids of their frames. @type {Map<string, Unsettled>} */
  #unsettled = new Map();

  /** @returns {Letter[]} */
  get letters() {
    return [...this.#unsettled.values()].map(({ letter }) => letter);
  }

  /** @param {Letter} letter */
  add(letter) {
    /** @type {Deferred<Acknowledged>} */
    const promised = deferred();
    this.#unsettled.set(letter.frame.id, { letter, promised });
    return promised.promise;
  }

  /**
   * @param {ProgressNews} news
   * @returns {MessageFrame | null} whose it is
   */
  follow({ id, progress, firstSentAt, status, messageId, position, isDuplicate, refusal }) {
    const unsettled = this.#unsettled.get(id);
    if (!unsettled) return null;
    const { letter, promised } = unsettled;
    const { channel, key } = letter.frame;
    letter.firstSentAt = firstSentAt;
    if (refusal) this.fail(id, CityError.of(refusal));
    else if (progress === "safe" && status !== "held") {
      this.#unsettled.delete(id);
      promised.resolve({ status, messageId, channel, key, position, isDuplicate });
    }
    return letter.frame;
  }

  /**
   * @param {string} id
   * @param {unknown} error
   */
  fail(id, error) {
    this.#unsettled.get(id)?.promised.reject(error);
    this.#unsettled.delete(id);
  }

  /** @param {unknown} error */
  failAll(error) {
    for (const id of [...this.#unsettled.keys()]) this.fail(id, error);
  }
}
