/** How far each log was read: the last ack, reset or publication of it, whatever came last. */

/** @import { ChatResponse, Position, Publication } from "./protocol.js" */

export class Positions {
  /** @type {Map<string, Position>} */
  #places;

  /** @param {Iterable<[string, Position]>} places kept from an earlier life of the page */
  constructor(places = []) {
    this.#places = new Map(places);
  }

  /** @param {string} log */
  of(log) {
    return this.#places.get(log) ?? null;
  }

  /**
   * @param {string} log
   * @param {Position} position
   */
  set(log, { offset, epoch }) {
    this.#places.set(log, { offset, epoch });
  }

  /**
   * Ephemeral and provisional frames have no place and move nothing.
   *
   * @param {Publication | ChatResponse} frame
   */
  follow(frame) {
    if (frame.offset === undefined || frame.epoch === undefined) return;
    this.set(logOf(frame), { offset: frame.offset, epoch: frame.epoch });
  }

  /** Forgets all others. @param {string[]} logs */
  retain(logs) {
    for (const log of this.#places.keys()) if (!logs.includes(log)) this.#places.delete(log);
  }

  /** @returns {[string, Position][]} */
  all() {
    return [...this.#places];
  }
}

/** The log that a frame's offset counts in. @param {Publication | ChatResponse} frame */
export function logOf(frame) {
  return frame.type === "chat_response" ? frame.log : frame.channel;
}
