/** Puts what befell a channel into words, where a person will see it: in its conversation, and as news. */

import { wordsFor } from "./channel_words.js";
import { placeOf } from "./places.js";
import { Signal } from "./signal.js";
import { counted, gapInWords, refusalInWords } from "./words.js";

/** @import { Clock } from "./clock.js" */
/** @import { Refusal } from "./protocol.js" */
/** @import { Threads } from "./threads.js" */

/** @typedef {{ tone: "good" | "bad", text: string }} News  worth a line, not worth keeping */

export class Telling {
  /** @type {Signal<News>} */
  news = new Signal();

  #threads;
  #clock;

  /**
   * @param {Threads} threads
   * @param {Clock} clock
   */
  constructor(threads, clock) {
    this.#threads = threads;
    this.#clock = clock;
  }

  /** @param {number} messages */
  caughtUp(messages) {
    const what = messages > 0 ? counted(messages, "message") : "nothing was missed";
    this.news.emit({ tone: "good", text: `Caught up: ${what}.` });
  }

  /**
   * @param {string} log where something was missed and cannot be had any more
   * @param {string} reason
   */
  gap(log, reason) {
    const why = gapInWords(reason);
    this.#notice(log, "gap", `Something is missing here and could not be recovered: ${why}.`);
    this.news.emit({ tone: "bad", text: `Could not recover ${wordsFor(placeOf(log)).title}: ${why}.` });
  }

  /**
   * @param {string} log that cannot be listened to
   * @param {Refusal} refusal
   */
  closed(log, refusal) {
    this.#notice(log, "error", `This channel cannot be heard now. ${refusalInWords(refusal)}`);
  }

  /**
   * @param {string} channel
   * @param {string} message
   */
  ended(channel, message) {
    this.#notice(channel, "error", `The platform ended this channel for you: ${message}`);
  }

  /**
   * A refusal that belongs to nothing one can see.
   *
   * @param {Refusal} refusal
   * @param {number | undefined} retryAfter
   */
  refused(refusal, retryAfter) {
    this.news.emit({ tone: "bad", text: refusalInWords(refusal, retryAfter) });
  }

  /**
   * @param {string} log
   * @param {"gap" | "error"} tone
   * @param {string} text
   */
  #notice(log, tone, text) {
    this.#threads.notice(placeOf(log), { tone, text, at: this.#clock.now() });
  }
}
