/**
 * One question and its answer on the way: awaited for the whole, iterated for the parts, or both. It knows
 * neither sockets nor frames; the city hands in the answer as far as it is known.
 */

import { deferred } from "./deferred.js";
import { CityError, OWN_CODES } from "./errors.js";

/** @import { Answer } from "./answers.js" */
/** @import { Clock } from "./clock.js" */
/** @import { Deferred } from "./deferred.js" */
/** @import { Payload } from "./protocol.js" */

/**
 * A piece of text to append; with `restarts`, everything shown before it is to be thrown away.
 */
export class Part {
  /**
   * @param {string} text
   * @param {boolean} restarts
   */
  constructor(text, restarts = false) {
    this.text = text;
    this.restarts = restarts;
  }

  toString() {
    return this.text;
  }
}

/** A whole answer. `agent` is who gave it; `text` is its payload's `message`. */
export class Reply {
  /** @param {Answer} answer */
  constructor({ text, payload, agent, channel, messageId, question, conversationId }) {
    this.text = text;
    /** @type {Payload} */
    this.payload = { message: text, ...payload };
    this.agent = agent;
    this.channel = channel;
    this.messageId = messageId;
    this.inReplyTo = question;
    this.conversationId = conversationId;
  }

  toString() {
    return this.text;
  }
}

/** @implements {PromiseLike<Reply>} */
export class Asking {
  #clock;
  #patience;
  /** @type {Answer | null} */
  #answer = null;
  /** @type {unknown} */
  #error = null;
  #isOver = false;
  #callOff = () => {};
  /** @type {(() => void) | null} */
  #stop = null;
  #isUnwanted = false;
  #forgetSignal = () => {};
  /** @type {Deferred<void>} */
  #news = deferred();

  /**
   * @param {Clock} clock
   * @param {number} patience milliseconds for which nothing may be heard of the answer
   */
  constructor(clock, patience) {
    this.#clock = clock;
    this.#patience = patience;
  }

  /**
   * @template [T=Reply]
   * @template [U=never]
   * @param {((reply: Reply) => T | PromiseLike<T>) | null} [onReply]
   * @param {((error: any) => U | PromiseLike<U>) | null} [onError]
   * @returns {Promise<T | U>}
   */
  then(onReply, onError) {
    return this.#whole().then(onReply, onError);
  }

  /** @returns {AsyncGenerator<Part, void, void>} */
  async *[Symbol.asyncIterator]() {
    let edition = 0;
    let shown = 0;
    for (;;) {
      const { text, edition: latest } = this.#answer ?? { text: "", edition: 0 };
      const restarts = latest !== edition && shown > 0;
      const piece = text.slice(latest === edition ? shown : 0);
      edition = latest;
      shown = text.length;
      if (piece || restarts) yield new Part(piece, restarts);
      else if (this.#isOver) break;
      else await this.#news.promise;
    }
    if (this.#error) throw this.#error;
  }

  /** @param {AbortSignal} [signal] */
  endWith(signal) {
    const give = () => {
      this.stop();
      this.fail(signal?.reason);
    };
    signal?.addEventListener("abort", give);
    this.#forgetSignal = () => signal?.removeEventListener("abort", give);
  }

  /**
   * The answer is not wanted any more: the platform is told, its agent leaves off, and this rejects with the code
   * `stopped`. To leave the loop over its parts stops nothing.
   */
  stop() {
    if (this.#isOver) return;
    this.#isUnwanted = true;
    this.#stop?.();
  }

  /** From now on it can be stopped. @param {() => void} stop */
  known(stop) {
    this.#stop = stop;
    if (this.#isUnwanted) stop();
  }

  /** The question is in the inbox: from now on something is to be heard. */
  queued() {
    this.#watch();
  }

  /** @param {Answer} answer as far as it is known */
  heard(answer) {
    if (this.#isOver) return;
    this.#answer = { ...answer };
    if (answer.state === "failed") this.fail(CityError.of(answer.refusal ?? { code: "internal", message: "" }));
    else if (answer.state === "done") this.#end();
    else this.#watch();
    this.#wake();
  }

  /** No answer will come any more; what is over already stays as it is. @param {unknown} error */
  fail(error) {
    if (this.#isOver) return;
    this.#error = error;
    this.#end();
    this.#wake();
  }

  async #whole() {
    while (!this.#isOver) await this.#news.promise;
    if (this.#error || !this.#answer) throw this.#error;
    return new Reply(this.#answer);
  }

  #watch() {
    this.#callOff();
    const message = `Nothing was heard of the answer for ${this.#patience / 1000} s.`;
    const late = () => this.fail(new CityError(message, { code: OWN_CODES.noAnswer }));
    this.#callOff = this.#clock.after(this.#patience, late);
  }

  #end() {
    this.#isOver = true;
    this.#callOff();
    this.#forgetSignal();
  }

  #wake() {
    this.#news.resolve();
    this.#news = deferred();
  }
}
