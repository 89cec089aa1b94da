/**
 * What one page waits for: letters and tokens on their way, and questions whose answer has not ended. Whoever waits is
 * told once, at the latest that nothing will come.
 */

import { deferred } from "./deferred.js";
import { CityError } from "./errors.js";
import { Letters } from "./letters.js";

/** @import { Answer } from "./answers.js" */
/** @import { Asking } from "./asking.js" */
/** @import { Deferred } from "./deferred.js" */
/** @import { Refusal } from "./errors.js" */

export class Unsettled {
  letters = new Letters();
  /** By the question's message_id. @type {Map<string, Asking>} */
  #askings = new Map();
  /** Tokens on their way, by the ids of their frames. @type {Map<string, Deferred<void>>} */
  #refreshes = new Map();

  /**
   * @param {string} messageId of a question
   * @param {Asking} asking whose answer it is, until it has ended or was given up
   */
  expect(messageId, asking) {
    const forget = () => this.#askings.delete(messageId);
    this.#askings.set(messageId, asking);
    asking.then(forget, forget);
    asking.queued();
  }

  /** @param {Answer} answer as far as it is known */
  heard(answer) {
    this.#askings.get(answer.question)?.heard(answer);
  }

  /** @param {string} id of the frame that brings a token */
  refreshing(id) {
    /** @type {Deferred<void>} */
    const taken = deferred();
    this.#refreshes.set(id, taken);
    return taken.promise;
  }

  /**
   * @param {string} id
   * @param {Refusal | null} refusal
   */
  refreshed(id, refusal) {
    const taken = this.#refreshes.get(id);
    if (refusal) taken?.reject(CityError.of(refusal));
    else taken?.resolve();
    this.#refreshes.delete(id);
  }

  /** Nothing of it will come. @param {CityError} error */
  giveUp(error) {
    for (const asking of this.#askings.values()) asking.fail(error);
    for (const taken of this.#refreshes.values()) taken.reject(error);
    this.letters.failAll(error);
    this.#askings.clear();
    this.#refreshes.clear();
  }
}
