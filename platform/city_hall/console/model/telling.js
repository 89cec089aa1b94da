/** Puts what befell a channel into words, where a person will see it: in its conversation, and as news. */

import { Signal } from "../client/index.js";
import { wordsFor } from "./channel_words.js";
import { placeOf } from "./places.js";
import { counted, gapInWords, refusalInWords } from "./words.js";

/** @import { Refusal } from "../client/index.js" */
/** @import { Threads } from "./threads.js" */

/** @typedef {{ tone: "good" | "bad", text: string }} News  worth a line, not worth keeping */

export class Telling {
  /** @type {Signal<News>} */
  news = new Signal();

  #threads;
  #now;
  /** Channels that cannot be heard for the moment: said once. @type {Set<string>} */
  #unheard = new Set();

  /**
   * @param {Threads} threads
   * @param {() => number} now
   */
  constructor(threads, now) {
    this.#threads = threads;
    this.#now = now;
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
   * @param {string} log that cannot be listened to for the moment
   * @param {Refusal} refusal
   */
  unheard(log, refusal) {
    if (this.#unheard.has(log)) return;
    this.#unheard.add(log);
    this.#notice(log, "error", `This channel cannot be heard now. ${refusalInWords(refusal)}`);
  }

  /** @param {string} log that is listened to */
  heard(log) {
    this.#unheard.delete(log);
  }

  /**
   * @param {string} channel
   * @param {Refusal} refusal
   */
  ended(channel, { message }) {
    this.#notice(channel, "error", `The platform ended this channel for you: ${message}`);
  }

  /** A refusal that belongs to nothing one can see. @param {Refusal} refusal */
  refused(refusal) {
    this.news.emit({ tone: "bad", text: refusalInWords(refusal) });
  }

  /**
   * @param {string} log
   * @param {"gap" | "error"} tone
   * @param {string} text
   */
  #notice(log, tone, text) {
    this.#threads.notice(placeOf(log), { tone, text, at: this.#now() });
  }
}
