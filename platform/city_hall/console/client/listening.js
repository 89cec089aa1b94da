/**
 * What one reader takes from its channels, with `for await`: publications in a bounded buffer. A reader that is
 * too slow holds nobody up; its channels are left and, once it has read what there is, gone on with from the log.
 */

import { deferred } from "./deferred.js";
import { CityError, OWN_CODES } from "./errors.js";

/** @import { Deferred } from "./deferred.js" */
/** @import { Places, Position } from "./protocol.js" */
/** @import { Message } from "./messages.js" */

/** @typedef {{ join: (places: Places) => void, leave: (channels: string[]) => void }} Way  to the platform */

export const MOST_UNREAD = 1024;

/** @implements {AsyncIterableIterator<Message, void, void>} */
export class Listening {
  /** How far each channel was read: where a later reader goes on. @type {Map<string, Position>} */
  positions = new Map();
  /** Fulfilled once every channel is heard, rejected when one is refused. @type {Promise<void>} */
  ready;

  #way;
  #close;
  #most;
  /** Up to where each channel stands in the buffer. @type {Map<string, Position | null>} */
  #taken;
  /** @type {Set<string>} left until there is room again */
  #behind = new Set();
  /** @type {Set<string>} never heard so far */
  #awaited;
  /** @type {Deferred<void>} */
  #joined = deferred();
  /** @type {Message[]} */
  #buffer = [];
  #isOver = false;
  #forgetSignal = () => {};
  /** @type {unknown} */
  #error = null;
  /** @type {Deferred<void>} */
  #news = deferred();

  /**
   * @param {Places} places
   * @param {Way} way
   * @param {() => void} close
   * @param {number} most unread publications
   */
  constructor(places, way, close, most = MOST_UNREAD) {
    this.#taken = new Map(Object.entries(places));
    this.#awaited = new Set(this.#taken.keys());
    this.ready = this.#joined.promise;
    this.ready.catch(() => {}); // whoever iterates is told anyway
    this.#way = way;
    this.#close = close;
    this.#most = most;
  }

  /** @param {AbortSignal} [signal] */
  endWith(signal) {
    const close = () => this.close();
    signal?.addEventListener("abort", close);
    this.#forgetSignal = () => signal?.removeEventListener("abort", close);
    if (signal?.aborted) close();
  }

  /** @returns {string[]} */
  get channels() {
    return [...this.#taken.keys()];
  }

  /** How many publications wait to be read. */
  get unread() {
    return this.#buffer.length;
  }

  /** @param {Message} message */
  put(message) {
    if (this.#isOver || this.#behind.has(message.channel)) return;
    this.#buffer.push(message);
    this.#moveTo(message.channel, message);
    if (this.#buffer.length >= this.#most) this.#fallBehind();
    this.#wake();
  }

  /**
   * @param {string} channel
   * @param {Position} position after which it is heard
   */
  joined(channel, position) {
    this.#moveTo(channel, position);
    this.#awaited.delete(channel);
    if (this.#awaited.size === 0) this.#joined.resolve();
  }

  /** No more will come; what is in the buffer still does. @param {unknown} error thrown after it, or null */
  end(error) {
    this.#isOver = true;
    this.#forgetSignal();
    this.#error ??= error;
    this.#joined.reject(error ?? new CityError("Nobody listens any more.", { code: OWN_CODES.ended }));
    this.#wake();
  }

  /** Leaves the channels and forgets what was not read. */
  close() {
    if (!this.#isOver) this.#close();
    this.#buffer = [];
    this.end(null);
  }

  /** @returns {Promise<IteratorResult<Message, void>>} */
  async next() {
    while (this.#buffer.length === 0) {
      if (this.#isOver) return this.#finish();
      this.#catchUp();
      await this.#news.promise;
    }
    const value = /** @type {Message} */ (this.#buffer.shift());
    this.positions.set(value.channel, { offset: value.offset, epoch: value.epoch });
    return { done: false, value };
  }

  /** @returns {Promise<IteratorResult<Message, void>>} */
  async return() {
    this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /**
   * @param {string} channel
   * @param {Position} position
   */
  #moveTo(channel, { offset, epoch }) {
    if (!this.#behind.has(channel)) this.#taken.set(channel, { offset, epoch });
  }

  #finish() {
    const error = this.#error;
    this.#error = null;
    if (error) throw error;
    return { done: /** @type {const} */ (true), value: undefined };
  }

  #fallBehind() {
    this.#behind = new Set(this.channels);
    this.#way.leave(this.channels);
  }

  #catchUp() {
    if (this.#behind.size === 0) return;
    this.#behind.clear();
    this.#way.join(Object.fromEntries(this.#taken));
  }

  #wake() {
    this.#news.resolve();
    this.#news = deferred();
  }
}
