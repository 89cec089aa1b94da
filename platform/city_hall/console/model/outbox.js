/**
 * What a person has typed, as a conversation shows it: on its way, safe, or failed and to be sent again. The
 * sending itself is the client's.
 */

import { OWN_CODES, Signal, newKey } from "../client/index.js";

/** @import { City, Progress, ProgressTold, Refusal } from "../client/index.js" */

/**
 * @typedef {{
 *   key: string, channel: string, text: string, conversationId: string,
 *   progress: Progress, messageId: string, status: string, refusal: Refusal | null, firstSentAt: number,
 * }} Message  `safe`: acknowledged, `status` says as what; `firstSentAt`: 0 while it never went out
 */

/** More than a person types while the connection is away. */
export const MOST_WAITING = 50;

export class Outbox {
  /** @type {Signal<Message>} */
  changed = new Signal();

  #city;
  /** By their keys, until they are safe. @type {Map<string, Message>} */
  #messages = new Map();

  /**
   * @param {City} city
   * @param {Message[]} kept of an earlier life of the page
   */
  constructor(city, kept) {
    this.#city = city;
    city.on("progress", (told) => this.#follow(told));
    for (const message of kept.filter(isUnsettled)) this.#take(message);
  }

  /** How many messages have not been sent, or not on this connection. */
  get waiting() {
    return this.#underWay().filter(({ progress }) => progress === "waiting").length;
  }

  /** Whether no further message is taken. */
  get isFull() {
    return this.#underWay().length >= MOST_WAITING;
  }

  /**
   * @param {{ channel: string, text: string, conversationId: string }} said
   * @returns {boolean} false when too many wait already
   */
  submit(said) {
    if (this.isFull) return false;
    this.#take({
      ...said, key: newKey(), progress: "waiting", messageId: "", status: "", refusal: null, firstSentAt: 0,
    });
    return true;
  }

  /** @param {string} key of a message that failed */
  sendAgain(key) {
    const message = this.#messages.get(key);
    if (message?.progress === "failed") this.#take(Object.assign(message, { refusal: null, firstSentAt: 0 }));
  }

  /** Gives a failed message up. @param {string} key */
  discard(key) {
    if (this.#messages.get(key)?.progress === "failed") this.#messages.delete(key);
  }

  /** @param {Message} message */
  #take(message) {
    const { key, channel, text, conversationId, firstSentAt } = message;
    const payload = { message: text, conversation_id: conversationId };
    message.progress = "waiting";
    this.#messages.set(key, message);
    this.changed.emit(message);
    // What comes of it is told as progress, a failure too.
    this.#city.send(channel, payload, { key, firstSentAt, seconds: 0 }).catch(() => {});
  }

  /** @param {ProgressTold} told */
  #follow({ key, progress, status, messageId, refusal, firstSentAt }) {
    const message = this.#messages.get(key);
    if (!message) return;
    Object.assign(message, { progress, status, messageId, refusal, firstSentAt });
    if (progress === "safe" && status !== "held") this.#messages.delete(key);
    this.changed.emit(message);
  }

  #underWay() {
    return [...this.#messages.values()].filter(({ progress }) => progress !== "failed");
  }
}

/** What failed only because the session had ended goes out in the next one. @param {Message} message */
function isUnsettled({ progress, refusal }) {
  return progress === "waiting" || progress === "sent" || refusal?.code === OWN_CODES.ended;
}
