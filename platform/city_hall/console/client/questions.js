/** Who asked what: answers are told to the one who asked, also those that are faster than their question's ack. */

/** @import { Listener } from "./feed.js" */
/** @import { ChatResponse } from "./protocol.js" */

export const MOST_QUESTIONS = 1000;
export const MOST_EARLY = 256;

export class Questions {
  /** By the question's message_id. @type {Map<string, Listener>} */
  #askers = new Map();
  /** @type {ChatResponse[]} */
  #early = [];

  /** @param {ChatResponse} frame */
  of(frame) {
    return this.#askers.get(frame.in_reply_to) ?? null;
  }

  /** Keeps an answer until it is known whose it is. @param {ChatResponse} frame */
  keep(frame) {
    this.#early.push(frame);
    if (this.#early.length > MOST_EARLY) this.#early.shift();
  }

  /**
   * A question is known by its id.
   *
   * @param {string} messageId
   * @param {Listener} asker
   */
  asked(messageId, asker) {
    this.#askers.set(messageId, asker);
    for (const oldest of this.#askers.keys()) {
      if (this.#askers.size <= MOST_QUESTIONS) break;
      this.#askers.delete(oldest);
    }
  }

  /**
   * What came early and is early no more.
   *
   * @param {boolean} isAsking whether there are still questions whose ids are not known
   * @returns {ChatResponse[]}
   */
  release(isAsking) {
    const early = this.#early.splice(0);
    if (!isAsking) return early;
    this.#early = early.filter((frame) => !this.of(frame));
    return early.filter((frame) => this.of(frame));
  }

  /** @param {Listener} asker that is gone */
  forgetAll(asker) {
    for (const [messageId, other] of this.#askers) if (other === asker) this.#askers.delete(messageId);
  }
}
