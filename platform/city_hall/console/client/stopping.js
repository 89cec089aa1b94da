/**
 * Questions whose answers nobody wants any more: the platform is told until it has taken note, over as many sockets as
 * that takes. How a question ends is told by its answer; nothing waits here.
 */

import { delayBefore } from "./backoff.js";
import { newKey, stopFrame } from "./frames.js";

/** @import { Clock } from "./clock.js" */
/** @import { Ack, ErrorFrame, StopFrame } from "./protocol.js" */

export const MOST_STOPS = 256;
export const MOST_ATTEMPTS = 5;

export class Stopping {
  #parts;
  /** By the ids of their frames. @type {Map<string, { messageId: string, attempt: number }>} */
  #stops = new Map();
  /** Frames of questions that were called off before it was known under which id they are asked. @type {Set<string>} */
  #unknown = new Set();

  /** @param {{ send: (frame: StopFrame) => boolean, clock: Clock, random: () => number }} parts */
  constructor(parts) {
    this.#parts = parts;
  }

  /** @param {string} messageId of a question */
  stop(messageId) {
    const id = newKey();
    this.#stops.set(id, { messageId, attempt: 0 });
    if (this.#stops.size > MOST_STOPS) this.#stops.delete([...this.#stops.keys()][0] ?? "");
    this.#tell(id);
  }

  /** The question in this frame is to be stopped as soon as it is acknowledged. @param {string} id */
  stopOnceKnown(id) {
    this.#unknown.add(id);
    if (this.#unknown.size > MOST_STOPS) this.#unknown.delete([...this.#unknown][0] ?? "");
  }

  /** Connected: what the platform has not taken note of is told again. */
  flush() {
    for (const id of this.#stops.keys()) this.#tell(id);
  }

  /** The connection is gone, and with it the acknowledgements of frames that nobody sends again. */
  lost() {
    this.#unknown.clear();
  }

  /**
   * What is held is in no inbox yet, and is stopped with the acknowledgement that follows.
   *
   * @param {Ack} ack
   * @returns {boolean} whether it answered one of ours
   */
  acked({ id = "", status, message_id: messageId = "" }) {
    if (status === "held" && this.#unknown.has(id)) return true;
    if (this.#unknown.delete(id)) {
      if (messageId) this.stop(messageId);
      return true;
    }
    return this.#stops.delete(id);
  }

  /**
   * @param {ErrorFrame} error
   * @returns {boolean} whether it answered one of ours
   */
  refused({ id = "", retryable, retry_after: retryAfter = 0 }) {
    const stop = this.#stops.get(id);
    if (!stop) return this.#unknown.delete(id);
    stop.attempt += 1;
    if (!retryable || stop.attempt >= MOST_ATTEMPTS) return this.#stops.delete(id);
    const delay = Math.max(retryAfter * 1000, delayBefore(stop.attempt, this.#parts.random));
    this.#parts.clock.after(delay, () => this.#tell(id));
    return true;
  }

  /** @param {string} id */
  #tell(id) {
    const stop = this.#stops.get(id);
    if (stop) this.#parts.send(stopFrame(id, stop.messageId));
  }
}
