/**
 * One log as one connection hears it, for everybody who listens. Each listener has a place of its own, so that
 * one can catch up without another hearing anything twice; it knows no socket and keeps no messages.
 */

/** @import { ChatResponse, Joined, Position, Publication } from "./protocol.js" */

/**
 * @typedef {{ recovered?: boolean, missed?: number, reason?: string }} Recovery
 * @typedef {(
 *   { news: "joined", channel: string, position: Position } & Recovery
 *   | { news: "reset", channel: string, position: Position, reason: string }
 * )} FeedNews
 * @typedef {{ tell: (news: any) => void }} Listener
 * @typedef {{
 *   position: Position | null, isLive: boolean, isAskedFor: boolean, mended: number, lost: string,
 * }} Place  `isAskedFor`: it was there when the log was last asked for; `mended`: the offset after which something
 *   was missing and has been asked for; `lost`: why its position is of no use any more
 */

export class Feed {
  /** The id of the subscribe frame that is under way, "" when none is. */
  asked = "";
  /** Refused for the moment: not asked for until told. */
  isPaused = false;
  /** What was heard last on this connection; null while the log is not heard. @type {Position | null} */
  head = null;

  #log;
  /** The offset up to which the platform tells what was missed. */
  #target = 0;
  /** @type {Position | null} */
  #askedAt = null;
  /** @type {Map<Listener, Place>} */
  #places = new Map();

  /** @param {string} log */
  constructor(log) {
    this.#log = log;
  }

  /**
   * Listens from a position, or from now; again moves the place.
   *
   * @param {Listener} listener
   * @param {Position | null} since
   */
  listen(listener, since) {
    const place = { position: since, isLive: false, isAskedFor: false, mended: -1, lost: "" };
    this.#places.set(listener, place);
    if (this.head && this.#isCaughtUp && (!since || isSame(since, this.head))) {
      this.#join(listener, place, this.head, since ? { recovered: true, missed: 0 } : {});
    }
  }

  /** @param {Listener} listener */
  leave(listener) {
    this.#places.delete(listener);
  }

  /** @param {Listener} listener */
  has(listener) {
    return this.#places.has(listener);
  }

  /** @returns {Listener[]} */
  get listeners() {
    return [...this.#places.keys()];
  }

  /** Those who hear what happens now. @returns {Listener[]} */
  get hearers() {
    return [...this.#places].filter(([, { isLive }]) => isLive).map(([listener]) => listener);
  }

  get needsAsking() {
    if (this.asked || this.isPaused) return false;
    return [...this.#places.values()].some(({ isLive, position }) => !isLive && (position || !this.head));
  }

  /**
   * A subscribe frame goes out.
   *
   * @param {string} id
   * @returns {Position | null} from where: the furthest back of all places, since there is one subscription
   */
  askAs(id) {
    const positions = [...this.#places.values()].flatMap(({ position }) => position ?? []);
    this.#askedAt = positions.reduce((/** @type {Position | null} */ lowest, position) =>
      lowest && lowest.offset <= position.offset ? lowest : position, null);
    for (const place of this.#places.values()) place.isAskedFor = true;
    this.asked = id;
    return this.#askedAt;
  }

  /** The connection is gone. */
  lost() {
    this.asked = "";
    this.isPaused = false;
    this.head = null;
    for (const place of this.#places.values()) place.isLive = false;
  }

  /** The platform has subscribed a fresh connection to this log by itself. @param {Position} position */
  welcomed(position) {
    this.#goOnFrom(position, position.offset);
    for (const [listener, place] of this.#places) {
      if (!place.position) this.#join(listener, place, position, {});
      else if (isSame(place.position, position)) {
        this.#join(listener, place, position, { recovered: true, missed: 0 });
      }
    }
  }

  /** The platform has answered the subscribe. @param {Joined} answer */
  joined({ offset, epoch, recovered, missed = 0, reason = "" }) {
    const position = { offset, epoch };
    this.asked = "";
    this.#goOnFrom(position, offset + missed);
    for (const [listener, place] of this.#places) {
      if (place.isLive || !place.position) continue;
      if (recovered) this.#recover(listener, place, offset);
      else if (isSame(place.position, position)) this.#join(listener, place, position, { recovered: true, missed: 0 });
      else if (isSame(place.position, this.#askedAt)) {
        this.#join(listener, place, position, { recovered: false, missed: 0, reason });
      }
    }
    this.#joinThoseWhoWait();
  }

  /**
   * Moves to a publication.
   *
   * @param {Position} position
   * @returns {Listener[]} to whom it is new
   */
  take(position) {
    if (!this.head) return [];
    this.head = position;
    const hearers = [...this.#places].filter(([listener, place]) => this.#moves(listener, place, position));
    this.#joinThoseWhoWait();
    return hearers.map(([listener]) => listener);
  }

  /**
   * Continuity broke: what follows starts after this position.
   *
   * @param {Position} position
   * @param {string} reason
   */
  reset(position, reason) {
    if (!this.head) return;
    this.#goOnFrom(position, position.offset);
    for (const [listener, place] of this.#places) {
      const here = place.position;
      if (!place.isLive || (here?.epoch === position.epoch && here.offset >= position.offset)) continue;
      this.#break(listener, place, position, reason);
    }
    this.#joinThoseWhoWait();
  }

  get #isCaughtUp() {
    return this.head !== null && this.head.offset >= this.#target;
  }

  /**
   * @param {Position} position
   * @param {number} target
   */
  #goOnFrom(position, target) {
    this.head = position;
    this.#target = target;
  }

  /**
   * @param {Listener} listener
   * @param {Place} place
   * @param {number} offset from where the platform recovers
   */
  #recover(listener, place, offset) {
    const here = place.position;
    if (!here || here.offset < offset) return;
    const isBeyond = here.offset > this.#target;
    if (isBeyond && !place.isAskedFor) return; // the log may have grown since the platform looked
    if (isBeyond) Object.assign(place, { position: null, lost: "future" });
    else this.#join(listener, place, here, { recovered: true, missed: this.#target - here.offset });
  }

  /** Whoever wants to hear from now on does so once nothing older comes any more. */
  #joinThoseWhoWait() {
    if (!this.head || !this.#isCaughtUp) return;
    for (const [listener, place] of this.#places) {
      if (place.isLive || place.position) continue;
      const recovery = place.lost ? { recovered: false, missed: 0, reason: place.lost } : {};
      this.#join(listener, place, this.head, recovery);
    }
  }

  /**
   * @param {Listener} listener
   * @param {Place} place
   * @param {Position} position
   * @param {Recovery} recovery
   */
  #join(listener, place, position, recovery) {
    Object.assign(place, { position, isLive: true, lost: "" });
    listener.tell({ news: "joined", channel: this.#log, position, ...recovery });
  }

  /**
   * @param {Listener} listener
   * @param {Place} place
   * @param {Position} position
   * @param {string} reason
   */
  #break(listener, place, position, reason) {
    place.position = position;
    listener.tell({ news: "reset", channel: this.#log, position, reason });
  }

  /**
   * @param {Listener} listener
   * @param {Place} place
   * @param {Position} position
   * @returns {boolean} whether it is new to this one
   */
  #moves(listener, place, position) {
    const here = place.position;
    if (!place.isLive || !here) return false;
    if (position.offset < here.offset || isSame(position, here)) return false;
    if (position.offset === here.offset) this.#break(listener, place, before(position), "diverged");
    if (position.offset > here.offset + 1 && !this.#isMissing(listener, place, position)) return false;
    place.position = position;
    return true;
  }

  /**
   * Something is missing before this position: asked for once, and only then told to be lost.
   *
   * @param {Listener} listener
   * @param {Place} place
   * @param {Position} position
   */
  #isMissing(listener, place, position) {
    const after = place.position?.offset ?? 0;
    const wasAsked = place.mended === after;
    place.mended = after;
    if (wasAsked) this.#break(listener, place, before(position), "skipped");
    else place.isLive = false;
    return wasAsked;
  }
}

/** The log that a frame's offset counts in. @param {Publication | ChatResponse} frame */
export function logOf(frame) {
  return frame.type === "chat_response" ? frame.log : frame.channel;
}

/**
 * @param {Position | null} one
 * @param {Position | null} other
 */
function isSame(one, other) {
  return one !== null && one.offset === other?.offset && one.epoch === other.epoch;
}

/** @param {Position} position @returns {Position} */
function before({ offset, epoch }) {
  return { offset: offset - 1, epoch };
}
