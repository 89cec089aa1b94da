/**
 * What this page listens to: asked for after every welcome, from where it stopped, and again when a channel
 * was only for the moment not to be had. It keeps no messages.
 */

import { delayBefore } from "./backoff.js";
import { newKey, subscribeFrame } from "./frames.js";
import { Signal } from "./signal.js";

/** @import { Clock } from "./clock.js" */
/** @import { Positions } from "./positions.js" */
/** @import { Ack, Joined, Places, Refusal, SubscribeFrame, Welcome } from "./protocol.js" */

/**
 * @typedef {{ joined: [string, Joined][], refused: [string, Refusal][] }} Outcome
 * @typedef {{
 *   positions: Positions, send: (frame: SubscribeFrame) => boolean, clock: Clock, random: () => number,
 * }} Parts
 */

/** Refusals that pass: the channel is asked for again. */
const PASSING = new Set(["unavailable", "overloaded", "rate_limited", "internal"]);

export class Subscriptions {
  /** @type {Signal<Outcome>} */
  settled = new Signal();

  #parts;
  /** @type {Set<string>} */
  #wanted;
  /** Ids of our subscribe frames that wait for their ack. @type {Set<string>} */
  #asked = new Set();
  #attempt = 0;
  #callOff = () => {};

  /**
   * @param {Iterable<string>} channels
   * @param {Parts} parts
   */
  constructor(channels, parts) {
    this.#wanted = new Set(channels);
    this.#parts = parts;
  }

  /**
   * Asks for everything. A fresh connection listens to its own two logs already, a resumed one to nothing.
   */
  begin(/** @type {Welcome} */ { connection_id, user_id, resumed, channels }) {
    const { positions } = this.#parts;
    const logs = [...this.#wanted, `user:${user_id}`, ...(resumed ? [`connection:${connection_id}`] : [])];
    positions.retain(logs);
    this.#attempt = 0;
    this.#ask(logs.filter((log) => !(log in channels) || positions.of(log)));
    for (const [log, position] of Object.entries(channels)) {
      if (position && !positions.of(log)) positions.set(log, position);
    }
  }

  /**
   * @param {Ack} ack
   * @returns {boolean} whether it answered one of ours
   */
  acked({ id = "", channels = {} }) {
    if (!this.#asked.delete(id)) return false;
    /** @type {Outcome} */
    const outcome = { joined: [], refused: [] };
    for (const [log, answer] of Object.entries(channels)) {
      if (answer.error) outcome.refused.push([log, answer.error]);
      else outcome.joined.push([log, answer]);
    }
    for (const [log, position] of outcome.joined) this.#parts.positions.set(log, position);
    this.#askAgain(outcome.refused.filter(([, { code }]) => PASSING.has(code)).map(([log]) => log));
    this.settled.emit(outcome);
    return true;
  }

  /** A whole subscribe frame was refused. @returns {boolean} whether it was one of ours */
  refused(/** @type {string | undefined} */ id = "", /** @type {Refusal} */ refusal) {
    if (!this.#asked.delete(id)) return false;
    if (PASSING.has(refusal.code)) this.#askAgain([...this.#wanted]);
    this.settled.emit({ joined: [], refused: [...this.#wanted].map((log) => [log, refusal]) });
    return true;
  }

  /** The platform ended this one; it is not asked for again. @param {string} channel */
  ended(channel) {
    this.#wanted.delete(channel);
  }

  /** The connection is gone. */
  pause() {
    this.#asked.clear();
    this.#callOff();
  }

  /** @param {string[]} logs */
  #ask(logs) {
    if (logs.length === 0) return;
    /** @type {Places} */
    const places = Object.fromEntries(logs.map((log) => [log, this.#parts.positions.of(log)]));
    const id = newKey();
    if (this.#parts.send(subscribeFrame(id, places))) this.#asked.add(id);
  }

  /** @param {string[]} logs */
  #askAgain(logs) {
    if (logs.length === 0) return;
    this.#attempt += 1;
    const delay = delayBefore(this.#attempt, this.#parts.random);
    this.#callOff();
    this.#callOff = this.#parts.clock.after(delay, () => this.#ask(logs));
  }
}
