/** Follows what was missed until all of it is here. It counts; the frames themselves go their usual way. */

/** @import { Joined } from "./protocol.js" */

import { Signal } from "./signal.js";

export class CatchingUp {
  /** How many messages came, once the last of them is here. @type {Signal<number>} */
  done = new Signal();

  /** @type {Map<string, number>} the offset at which each log is caught up */
  #targets = new Map();
  #messages = 0;

  /** @param {[string, Joined][]} joined the logs of one ack */
  begin(joined) {
    const recovered = joined.filter(([, { recovered }]) => recovered);
    for (const [log, { offset, missed = 0 }] of recovered) {
      this.#messages += missed;
      if (missed > 0) this.#targets.set(log, offset + missed);
    }
    if (recovered.length > 0) this.#finish();
  }

  /**
   * @param {string} log
   * @param {number | undefined} offset of a publication or of a reset
   */
  reached(log, offset) {
    const target = this.#targets.get(log);
    if (target === undefined || offset === undefined || offset < target) return;
    this.#targets.delete(log);
    this.#finish();
  }

  /** The connection is gone: what is still missing will be asked for again. */
  giveUp() {
    this.#targets.clear();
    this.#messages = 0;
  }

  #finish() {
    if (this.#targets.size > 0) return;
    const messages = this.#messages;
    this.#messages = 0;
    this.done.emit(messages);
  }
}
