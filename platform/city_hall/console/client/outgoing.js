/**
 * Messages on their way: kept, bounded, until the platform has acknowledged them, so that one sent offline or
 * cut off in flight goes out once the connection is back. Their keys make sending twice safe.
 */

import { delayBefore } from "./backoff.js";
import { OWN_CODES } from "./errors.js";
import { byteLength, encode } from "./frames.js";

/** @import { Clock } from "./clock.js" */
/** @import { Verdict } from "./closing.js" */
/** @import { Refusal } from "./errors.js" */
/** @import { Listener } from "./feed.js" */
/** @import { Ack, ErrorFrame, MessageFrame, Position } from "./protocol.js" */

/**
 * @typedef {"waiting" | "sent" | "safe" | "failed"} Progress  `safe`: acknowledged, as `status` says
 * @typedef {{ frame: MessageFrame, firstSentAt: number, patience: number }} Letter
 *   `firstSentAt`: 0 while it never went out, perhaps in an earlier life of the page; `patience`: for how many
 *   milliseconds a refusal that may pass is met by sending again
 * @typedef {{
 *   news: "progress", id: string, progress: Progress, firstSentAt: number, status: string, messageId: string,
 *   position: Position | null, isDuplicate: boolean, refusal: Refusal | null,
 * }} ProgressNews
 * @typedef {Letter & {
 *   sender: Listener, size: number, isSent: boolean, attempt: number, giveUpAt: number, callOff: () => void,
 * }} Waiting
 * @typedef {{ send: (frame: MessageFrame) => boolean, clock: Clock, random: () => number }} Parts
 */

/** What is told of a frame as long as nothing more is known. @type {Omit<ProgressNews, "id" | "progress">} */
export const NOTHING_KNOWN = {
  news: "progress", firstSentAt: 0, status: "", messageId: "", position: null, isDuplicate: false, refusal: null,
};
/**
 * How long the platform remembers keys, less a minute: later, sending again could make two of one message.
 */
export const KEY_LIFE_MS = 9 * 60_000;
/** Messages of one sender that may wait, and their bytes all together. */
export const MOST_WAITING = 256;
export const MOST_BYTES = 16 * 1024 * 1024;

export class Outgoing {
  #parts;
  #mostBytes = Infinity;
  /** By the ids of their frames, in the order they were given. @type {Map<string, Waiting>} */
  #letters = new Map();

  /** @param {Parts} parts */
  constructor(parts) {
    this.#parts = parts;
  }

  /** Whether a question went out that nothing has been heard of. */
  get isAsking() {
    return [...this.#letters.values()].some(({ isSent, frame }) => isSent && frame.type !== "publish");
  }

  /**
   * Takes a message and sends it when there is a connection.
   *
   * @param {Listener} sender is told how it goes
   * @param {Letter} letter
   */
  submit(sender, letter) {
    const giveUpAt = this.#parts.clock.now() + letter.patience;
    const size = byteLength(encode(letter.frame));
    const waiting = { ...letter, sender, size, isSent: false, attempt: 0, giveUpAt, callOff: () => {} };
    if (this.#hasNoRoom(waiting)) {
      this.#tell(waiting, "failed", { refusal: { code: OWN_CODES.queueFull, message: "Too many messages wait." } });
      return;
    }
    this.#letters.set(letter.frame.id, waiting);
    this.#tell(waiting, "waiting");
    this.#dispatch(waiting);
  }

  /**
   * Its sender does not care any more; what went out may arrive.
   *
   * @param {string} id
   * @returns {boolean} whether it is a question that went out
   */
  forget(id) {
    const letter = this.#letters.get(id);
    letter?.callOff();
    this.#letters.delete(id);
    return letter !== undefined && letter.isSent && letter.frame.type !== "publish";
  }

  /** @param {Listener} sender that is gone */
  forgetAll(sender) {
    for (const [id, letter] of this.#letters) if (letter.sender === sender) this.forget(id);
  }

  /** Connected: everything that waits goes out, in order. @param {number} mostBytes what a frame may weigh */
  flush(mostBytes) {
    this.#mostBytes = mostBytes;
    for (const letter of [...this.#letters.values()]) if (!letter.isSent) this.#dispatch(letter);
  }

  /**
   * @param {Ack} ack
   * @returns {Waiting | null} what it answered, if it was one of ours
   */
  acked({ id = "", status = "queued", message_id: messageId = "", offset, epoch = "", duplicate = false }) {
    const letter = this.#letters.get(id);
    if (!letter) return null;
    if (status !== "held") this.forget(id);
    const position = offset === undefined ? null : { offset, epoch };
    this.#tell(letter, "safe", { status, messageId, position, isDuplicate: duplicate });
    return letter;
  }

  /**
   * @param {ErrorFrame} error
   * @returns {boolean} whether it answered one of ours
   */
  refused({ id = "", code, message, retryable = false, retry_after: retryAfter = 0 }) {
    const letter = this.#letters.get(id);
    if (!letter) return false;
    const delay = Math.max(retryAfter * 1000, delayBefore(letter.attempt + 1, this.#parts.random));
    const isWorthIt = retryable && this.#parts.clock.now() + delay < letter.giveUpAt;
    if (isWorthIt) this.#sendLater(letter, delay);
    else this.#fail(letter, { code, message, retryable, retryAfter });
    return true;
  }

  /** The connection is gone: what it may have swallowed waits again, unless it may have been the cause. */
  interrupted(/** @type {Verdict} */ { comesBack, blame, sentence }) {
    for (const letter of [...this.#letters.values()]) {
      letter.callOff();
      if (!comesBack) this.#fail(letter, { code: OWN_CODES.ended, message: sentence });
      else if (letter.isSent && blame) this.#fail(letter, { code: blame, message: sentence });
      else if (letter.isSent) this.#wait(letter);
    }
  }

  /** Nothing goes out any more. */
  end() {
    const refusal = { code: OWN_CODES.ended, message: "The connection was ended here." };
    for (const letter of [...this.#letters.values()]) this.#fail(letter, refusal);
  }

  /** @param {Waiting} letter */
  #hasNoRoom({ sender, size }) {
    const own = [...this.#letters.values()].filter((letter) => letter.sender === sender);
    const bytes = own.reduce((sum, letter) => sum + letter.size, size);
    return own.length >= MOST_WAITING || (own.length > 0 && bytes > MOST_BYTES);
  }

  /** @param {Waiting} letter */
  #dispatch(letter) {
    const { clock, send } = this.#parts;
    if (letter.size > this.#mostBytes) {
      this.#fail(letter, { code: "too_large", message: "It is longer than the platform takes." });
    } else if (letter.firstSentAt && clock.now() - letter.firstSentAt > KEY_LIFE_MS) {
      const message = "It may have arrived before the connection was lost.";
      this.#fail(letter, { code: OWN_CODES.uncertain, message });
    } else if (send(letter.frame)) {
      letter.firstSentAt ||= clock.now();
      letter.isSent = true;
      this.#tell(letter, "sent");
    }
  }

  /**
   * @param {Waiting} letter
   * @param {number} delay
   */
  #sendLater(letter, delay) {
    letter.attempt += 1;
    letter.callOff = this.#parts.clock.after(delay, () => this.#dispatch(letter));
    this.#wait(letter);
  }

  /** @param {Waiting} letter */
  #wait(letter) {
    letter.isSent = false;
    this.#tell(letter, "waiting");
  }

  /**
   * @param {Waiting} letter
   * @param {Refusal} refusal
   */
  #fail(letter, refusal) {
    this.forget(letter.frame.id);
    this.#tell(letter, "failed", { refusal });
  }

  /**
   * @param {Waiting} letter
   * @param {Progress} progress
   * @param {Partial<ProgressNews>} more
   */
  #tell({ sender, frame: { id }, firstSentAt }, progress, more = {}) {
    sender.tell({ ...NOTHING_KNOWN, id, progress, firstSentAt, ...more });
  }
}
