/** Follows what was missed until all of it is here. It counts; the frames themselves go their usual way. */

import { Signal } from "./signal.js";

/** @import { Recovery } from "./feed.js" */
/** @import { Position } from "./protocol.js" */

/** @typedef {{ channel: string, position: Position } & Recovery} Joined */

export class CatchingUp {
  /**
   * How many messages came, once the last of them is here; 0 only when truly nothing was missed.
   *
   * @type {Signal<number>}
   */
  done = new Signal();

  /** @type {Map<string, number>} the offset at which each log is caught up */
  #targets = new Map();
  #messages = 0;
  #isWhole = true;
  /** @type {Joined[]} since the platform's last answer */
  #joined = [];

  /** @param {Joined} joined */
  joined(joined) {
    if (joined.recovered !== undefined) this.#joined.push(joined);
  }

  /** All that the platform's answer told has been told. */
  begin() {
    const asked = this.#joined.splice(0);
    this.#isWhole = asked.every(({ recovered }) => recovered);
    for (const { channel, position, missed = 0, recovered } of asked) {
      if (!recovered || missed === 0) continue;
      this.#messages += missed;
      this.#targets.set(channel, position.offset + missed);
    }
    if (asked.length > 0) this.#finish();
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
    this.#joined = [];
    this.#messages = 0;
  }

  #finish() {
    if (this.#targets.size > 0) return;
    const messages = this.#messages;
    this.#messages = 0;
    if (messages > 0 || this.#isWhole) this.done.emit(messages);
  }
}
