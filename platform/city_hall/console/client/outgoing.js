/**
 * Messages on their way: kept, bounded, until the platform has acknowledged them, so that one typed offline
 * or cut off in flight goes out once the connection is back. Their keys make sending twice safe.
 */

import { byteLength, encode, messageFrame, newKey } from "./frames.js";
import { Signal } from "./signal.js";

/** @import { Clock } from "./clock.js" */
/** @import { Verdict } from "./closing.js" */
/** @import { Ack, MessageFrame, Refusal } from "./protocol.js" */

/**
 * @typedef {"waiting" | "sent" | "safe" | "failed"} Progress
 * @typedef {{
 *   key: string, channel: string, text: string, conversationId: string,
 *   progress: Progress, messageId: string, status: string, refusal: Refusal | null, retryAfter: number,
 *   firstSentAt: number,
 * }} Message  `safe`: acknowledged, `status` says as what; `firstSentAt`: 0 while it never went out
 */

export const MOST_WAITING = 50;
/**
 * How long the platform remembers keys, less a minute: later, sending again could make two of one message.
 */
export const KEY_LIFE_MS = 9 * 60_000;

const TOO_LARGE = { code: "too_large", message: "It is longer than the platform takes." };
const UNCERTAIN = { code: "uncertain", message: "It may have arrived before the connection was lost." };

export class Outgoing {
  /** @type {Signal<Message>} */
  changed = new Signal();

  #send;
  #clock;
  #mostBytes = Infinity;
  /** Waiting, sent and failed ones, in the order typed. @type {Map<string, Message>} */
  #messages = new Map();

  /**
   * @param {(frame: MessageFrame) => boolean} send says whether the frame went out
   * @param {Clock} clock
   * @param {Message[]} kept messages of an earlier life of the page
   */
  constructor(send, clock, kept = []) {
    this.#send = send;
    this.#clock = clock;
    for (const message of kept) {
      if (message.progress === "sent") message.progress = "waiting";
      if (message.progress !== "safe") this.#messages.set(message.key, message);
    }
  }

  /** How many messages have not been sent, or not on this connection. */
  get waiting() {
    return this.#unsettled().filter(({ progress }) => progress === "waiting").length;
  }

  /** Whether no further message is taken. */
  get isFull() {
    return this.#unsettled().length >= MOST_WAITING;
  }

  /**
   * Takes a message and sends it when there is a connection.
   *
   * @param {{ channel: string, text: string, conversationId: string }} message
   * @returns {Message | null} null when too many wait already
   */
  submit({ channel, text, conversationId }) {
    if (this.isFull) return null;
    /** @type {Message} */
    const message = {
      key: newKey(), channel, text, conversationId,
      progress: "waiting", messageId: "", status: "", refusal: null, retryAfter: 0, firstSentAt: 0,
    };
    this.#messages.set(message.key, message);
    this.changed.emit(message);
    this.#dispatch(message);
    return message;
  }

  /** Connected: everything that waits goes out, in order. @param {number} mostBytes what a frame may weigh */
  flush(mostBytes) {
    this.#mostBytes = mostBytes;
    for (const message of this.#unsettled()) {
      if (message.progress === "waiting") this.#dispatch(message);
    }
  }

  /** @param {string} key of a message that failed */
  sendAgain(key) {
    const message = this.#messages.get(key);
    if (message?.progress !== "failed") return;
    message.refusal = null;
    message.firstSentAt = 0;
    this.#set(message, "waiting");
    this.#dispatch(message);
  }

  /** Gives a failed message up. @param {string} key */
  discard(key) {
    if (this.#messages.get(key)?.progress === "failed") this.#messages.delete(key);
  }

  /**
   * @param {Ack} ack
   * @returns {boolean} whether it answered one of ours
   */
  acked({ id = "", status = "queued", message_id = "" }) {
    const message = this.#messages.get(id);
    if (!message) return false;
    message.messageId = message_id;
    message.status = status;
    if (status !== "held") this.#messages.delete(id);
    this.#set(message, "safe");
    return true;
  }

  /**
   * @param {string | undefined} id
   * @param {Refusal} refusal
   * @param {number} retryAfter seconds; 0 when unknown
   * @returns {boolean} whether it answered one of ours
   */
  refused(id = "", refusal, retryAfter = 0) {
    const message = this.#messages.get(id);
    if (!message) return false;
    message.refusal = refusal;
    message.retryAfter = retryAfter;
    this.#set(message, "failed");
    return true;
  }

  /** The connection is gone: what it may have swallowed waits again, unless it may have been the cause. */
  interrupted(/** @type {Verdict} */ { blamesFrame, sentence }) {
    for (const message of this.#unsettled()) {
      if (message.progress === "waiting") continue;
      if (blamesFrame) this.refused(message.key, { code: "closed", message: sentence });
      else this.#set(message, "waiting");
    }
  }

  /** @param {Message} message */
  #dispatch(message) {
    const frame = messageFrame(message);
    if (byteLength(encode(frame)) > this.#mostBytes) {
      this.refused(message.key, TOO_LARGE);
    } else if (message.firstSentAt && this.#clock.now() - message.firstSentAt > KEY_LIFE_MS) {
      this.refused(message.key, UNCERTAIN);
    } else if (this.#send(frame)) {
      message.firstSentAt ||= this.#clock.now();
      this.#set(message, "sent");
    }
  }

  #unsettled() {
    return [...this.#messages.values()].filter(({ progress }) => progress !== "failed");
  }

  /**
   * @param {Message} message
   * @param {Progress} progress
   */
  #set(message, progress) {
    message.progress = progress;
    this.changed.emit(message);
  }
}
