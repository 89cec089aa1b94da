/**
 * What one page listens to, where it stands in every log, and who reads there. It asks nobody for anything: it is
 * told what was wanted and what came, and knows from it what to want again.
 */

import { isPrivate } from "./feeds.js";
import { messageOf } from "./messages.js";

/** @import { Listening } from "./listening.js" */
/** @import { Gap, Message } from "./messages.js" */
/** @import { Places, Position, Publication } from "./protocol.js" */

export class Standing {
  /** How far each log was read in an earlier life of the page, and private ones in this. @type {Map<string, Position>} */
  #past;
  /** What is listened to. @type {Map<string, Position | null>} */
  #places = new Map();
  /** @type {Map<string, Listening>} */
  #readers = new Map();
  /** What was lost and has not been told with a message yet. @type {Map<string, Gap>} */
  #gaps = new Map();

  /** @param {Iterable<[string, Position]>} [past] */
  constructor(past = []) {
    this.#past = new Map(past);
  }

  /** What is wanted, from where. @returns {Places} */
  get places() {
    return Object.fromEntries(this.#places);
  }

  /** How far one's own logs were read, which are heard without being asked for. */
  get ownPositions() {
    return [...this.#past].filter(([log]) => isPrivate(log));
  }

  /** All that a later life of the page has to know. @returns {[string, Position][]} */
  get positions() {
    const all = new Map(this.#past);
    for (const [log, position] of this.#places) if (position) all.set(log, position);
    return [...all];
  }

  /**
   * @param {Places} places one without a position goes on where an earlier life of the page stopped
   * @param {Listening | null} reader
   * @returns {Places} what to ask for
   */
  open(places, reader) {
    const taken = Object.keys(places).filter((name) => this.#places.has(name));
    if (taken.length > 0) throw new TypeError(`already listening to ${taken}: one reader per channel and City`);
    const opened = Object.entries(places).map(([name, position]) =>
      /** @type {const} */ ([name, position ?? this.#past.get(name) ?? null]));
    for (const [name, position] of opened) {
      this.#places.set(name, position);
      if (reader) this.#readers.set(name, reader);
    }
    return Object.fromEntries(opened);
  }

  /**
   * @param {string[]} names
   * @param {unknown} error for those who read there
   * @returns {string[]} what is not to be heard any more: one's own logs always are
   */
  drop(names, error) {
    return names.filter((name) => {
      this.#readers.get(name)?.end(error);
      this.#readers.delete(name);
      this.#gaps.delete(name);
      return this.#places.delete(name) && !isPrivate(name);
    });
  }

  /** Ends all reading; what is heard without a reader stays wanted. @param {unknown} error */
  endReaders(error) {
    this.drop([...this.#readers.keys()], error);
  }

  /** @param {string} channel @returns {string[]} all that is read together with this one */
  readWith(channel) {
    return this.#readers.get(channel)?.channels ?? [];
  }

  /** One is connected: these are the only private logs that are one's own. @param {string[]} own */
  arrived(own) {
    for (const log of this.#past.keys()) if (isPrivate(log) && !own.includes(log)) this.#past.delete(log);
  }

  /**
   * @param {string} channel
   * @param {Position} position after which it is heard
   */
  joined(channel, position) {
    this.moveTo(channel, position);
    this.#readers.get(channel)?.joined(channel, position);
  }

  /**
   * What came right after this place will not come.
   *
   * @param {string} channel
   * @param {string} reason
   */
  lost(channel, reason) {
    const after = this.#gaps.get(channel)?.after ?? this.#places.get(channel) ?? null;
    if (this.#places.has(channel)) this.#gaps.set(channel, { reason, after });
  }

  /**
   * Takes a publication, for the one who reads there too. What has no place (yet) is for nobody to read.
   *
   * @param {Publication} frame
   * @returns {Message}
   */
  take(frame) {
    const { channel, offset, epoch = "" } = frame;
    const message = messageOf(frame, this.#gaps.get(channel) ?? null);
    this.#gaps.delete(channel);
    if (offset === undefined) return message;
    this.moveTo(channel, { offset, epoch });
    this.#readers.get(channel)?.put(message);
    return message;
  }

  /**
   * @param {string} log
   * @param {Position} position
   */
  moveTo(log, position) {
    if (this.#places.has(log)) this.#places.set(log, position);
    if (isPrivate(log)) this.#past.set(log, position);
  }
}
