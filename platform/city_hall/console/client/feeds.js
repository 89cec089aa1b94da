/**
 * Every log that one connection listens to: what is wanted and not heard is asked for, after each welcome from
 * where it stopped, and again when it was only for the moment not to be had.
 */

import { delayBefore } from "./backoff.js";
import { Feed } from "./feed.js";
import { newKey, subscribeFrame, unsubscribeFrame } from "./frames.js";

/** @import { Clock } from "./clock.js" */
/** @import { Listener } from "./feed.js" */
/** @import { Refusal } from "./errors.js" */
/** @import { Ack, ClientFrame, Places, Position, Reset, Unsubscribed, Welcome } from "./protocol.js" */

/** @typedef {{ send: (frame: ClientFrame) => boolean, clock: Clock, random: () => number }} Parts */

/** Refusals that pass: the channel is asked for again. */
const PASSING = new Set(["unavailable", "overloaded", "rate_limited", "internal", "deadline_exceeded"]);
/** Channels in one frame; the platform takes at most 500 on a connection. */
const MOST_AT_ONCE = 200;
/** A subscribe without an answer for so long means that the connection is of no use. */
const ANSWER_MS = 20_000;

export class Feeds {
  #parts;
  #giveUp;
  /** @type {Map<string, Feed>} */
  #feeds = new Map();
  /** What each subscribe frame under way asks for, and what calls its deadline off. */
  #asked = /** @type {Map<string, { logs: string[], callOff: () => void }>} */ (new Map());
  #attempt = 0;
  #callOff = () => {};

  /**
   * @param {Parts} parts
   * @param {() => void} giveUp the platform does not answer on this connection
   */
  constructor(parts, giveUp) {
    this.#parts = parts;
    this.#giveUp = giveUp;
  }

  /**
   * @param {Listener} listener
   * @param {Places} places
   */
  listen(listener, places) {
    for (const [log, since] of Object.entries(places)) this.#open(log).listen(listener, since);
    this.#ask();
  }

  /**
   * Has somebody listen who does not already; what that takes is asked for with everything else.
   *
   * @param {Listener} listener
   * @param {Places} places
   */
  join(listener, places) {
    for (const [log, since] of Object.entries(places)) {
      const feed = this.#open(log);
      if (!feed.has(listener)) feed.listen(listener, since);
    }
  }

  /**
   * @param {Listener} listener
   * @param {string[]} logs
   */
  leave(listener, logs) {
    const left = logs.filter((log) => {
      const feed = this.#feeds.get(log);
      feed?.leave(listener);
      return feed && feed.listeners.length === 0 && this.#feeds.delete(log);
    });
    if (left.length > 0) this.#parts.send(unsubscribeFrame(left));
  }

  /** @param {Listener} listener */
  leaveAll(listener) {
    this.leave(listener, [...this.#feeds].filter(([, feed]) => feed.has(listener)).map(([log]) => log));
  }

  /**
   * Connected: a fresh connection listens to its own two logs already, a resumed one to nothing. The logs of
   * other connections and people are nobody's here any more.
   *
   * @param {Welcome} welcome
   * @param {(own: string[]) => void} joinOwn has everybody listen to the two logs
   */
  welcomed({ connection_id, user_id, resumed, channels }, joinOwn) {
    const own = [`connection:${connection_id}`, `user:${user_id}`];
    for (const log of this.#feeds.keys()) {
      const isAnothers = isPrivate(log) && !own.includes(log);
      const isOver = log === own[0] && !resumed;
      if (isAnothers || isOver) this.#feeds.delete(log);
    }
    this.#attempt = 0;
    joinOwn(own);
    if (!resumed) for (const log of own) this.#welcome(log, channels[log] ?? null);
    if (!this.#ask()) this.#settle();
  }

  /** The connection is gone. */
  lost() {
    this.#callOff();
    for (const { callOff } of this.#asked.values()) callOff();
    this.#asked.clear();
    for (const feed of this.#feeds.values()) feed.lost();
  }

  /**
   * @param {Ack} ack
   * @returns {boolean} whether it answered one of ours
   */
  acked({ id = "", channels = {} }) {
    const logs = this.#answered(id);
    if (!logs) return false;
    for (const log of logs) {
      const feed = this.#feeds.get(log);
      const answer = channels[log];
      if (!answer || feed?.asked !== id) continue;
      if (answer.error) this.#deny(log, feed, answer.error);
      else feed.joined(answer);
    }
    this.#goOn();
    return true;
  }

  /**
   * A whole subscribe frame was refused.
   *
   * @param {string | undefined} id
   * @param {Refusal} refusal
   * @returns {boolean} whether it was one of ours
   */
  refused(id = "", refusal) {
    const logs = this.#answered(id);
    if (!logs) return false;
    for (const log of logs) {
      const feed = this.#feeds.get(log);
      if (feed?.asked === id) this.#deny(log, feed, refusal);
    }
    this.#goOn();
    return true;
  }

  /** The platform ended a subscription; it is not asked for again. @param {Unsubscribed} frame */
  ended({ channel, code, message }) {
    const feed = this.#feeds.get(channel);
    if (feed) this.#close(channel, feed, { code, message });
  }

  /** @param {Reset} frame */
  reset({ channel, reason, offset, epoch }) {
    this.#feeds.get(channel)?.reset({ offset, epoch }, reason);
  }

  /**
   * Moves a log on.
   *
   * @param {string} log
   * @param {Position | null} position null for what stands outside of the log
   * @returns {Listener[]} who is to hear it
   */
  take(log, position) {
    const feed = this.#feeds.get(log);
    if (!feed || !position) return feed?.hearers ?? [];
    const hearers = feed.take(position);
    if (feed.needsAsking) this.#ask();
    return hearers;
  }

  /** @param {string} log */
  #open(log) {
    const feed = this.#feeds.get(log) ?? new Feed(log);
    this.#feeds.set(log, feed);
    return feed;
  }

  /**
   * @param {string} log
   * @param {Position | null} position
   */
  #welcome(log, position) {
    if (position) this.#feeds.get(log)?.welcomed(position);
  }

  /** @param {string} id of a subscribe frame */
  #answered(id) {
    const asked = this.#asked.get(id);
    asked?.callOff();
    this.#asked.delete(id);
    return asked?.logs;
  }

  /** Asks for everything that is wanted and not heard. @returns {boolean} whether there was anything */
  #ask() {
    const wanted = [...this.#feeds].filter(([, feed]) => feed.needsAsking);
    for (let from = 0; from < wanted.length; from += MOST_AT_ONCE) {
      this.#subscribe(wanted.slice(from, from + MOST_AT_ONCE));
    }
    return wanted.length > 0;
  }

  /** @param {[string, Feed][]} wanted */
  #subscribe(wanted) {
    const id = newKey();
    const places = Object.fromEntries(wanted.map(([log, feed]) => [log, feed.askAs(id)]));
    const isSent = this.#parts.send(subscribeFrame(id, places));
    if (isSent) {
      const callOff = this.#parts.clock.after(ANSWER_MS, this.#giveUp);
      this.#asked.set(id, { logs: Object.keys(places), callOff });
    } else for (const [, feed] of wanted) feed.asked = "";
  }

  /**
   * @param {string} log
   * @param {Feed} feed
   * @param {Refusal} refusal
   */
  #deny(log, feed, refusal) {
    feed.asked = "";
    if (PASSING.has(refusal.code)) this.#pause(log, feed, refusal);
    else this.#close(log, feed, refusal);
  }

  /**
   * @param {string} log
   * @param {Feed} feed
   * @param {Refusal} refusal
   */
  #pause(log, feed, refusal) {
    feed.isPaused = true;
    const waiting = feed.listeners.filter((listener) => !feed.hearers.includes(listener));
    for (const listener of waiting) {
      listener.tell({ news: "refused", channel: log, refusal: plain(refusal), retrying: true });
    }
  }

  /**
   * @param {string} log
   * @param {Feed} feed
   * @param {Refusal} refusal
   */
  #close(log, feed, refusal) {
    this.#feeds.delete(log);
    for (const listener of feed.listeners) {
      listener.tell({ news: "refused", channel: log, refusal: plain(refusal), retrying: false });
    }
  }

  /** After an answer: what could not be had for the moment is asked for later, what is left at once. */
  #goOn() {
    if ([...this.#feeds.values()].some(({ isPaused }) => isPaused)) this.#askLater();
    this.#ask();
    this.#settle();
  }

  #askLater() {
    this.#attempt += 1;
    this.#callOff();
    this.#callOff = this.#parts.clock.after(delayBefore(this.#attempt, this.#parts.random), () => {
      for (const feed of this.#feeds.values()) feed.isPaused = false;
      this.#ask();
    });
  }

  /** Everybody was told what came of one answer. */
  #settle() {
    const listeners = new Set([...this.#feeds.values()].flatMap(({ listeners }) => listeners));
    for (const listener of listeners) listener.tell({ news: "settled" });
  }
}

/** Whether a log is one person's or one connection's. @param {string} log */
export function isPrivate(log) {
  return log.startsWith("user:") || log.startsWith("connection:");
}

/** @param {Refusal} refusal @returns {Refusal} nothing but itself */
function plain({ code, message }) {
  return { code, message };
}
