/**
 * What is said with the city, as the console shows it: conversations, news and frames, each put together from
 * what the client tells. It decides nothing that a part could decide.
 */

import { Signal } from "../client/index.js";
import { bodyOf } from "./bodies.js";
import { Conversations } from "./conversations.js";
import { FrameLog } from "./frame_log.js";
import { Outbox } from "./outbox.js";
import { placeOf } from "./places.js";
import { Telling } from "./telling.js";
import { Threads } from "./threads.js";

/** @import { Answer, City, Message } from "../client/index.js" */
/** @import { Kept } from "./keepsake.js" */

export class Talk {
  frames = new FrameLog();
  /** When the session ends, told a minute before. @type {Signal<string>} */
  expiring = new Signal();
  city;
  threads;
  outbox;
  news;

  #now;
  #userId;
  #conversations;
  #telling;

  /**
   * @param {City} city with what `answersIn` finds in what was kept
   * @param {string[]} channels to listen to
   * @param {Partial<Kept>} kept of an earlier life of the page
   * @param {() => number} now
   */
  constructor(city, channels, kept = {}, now = Date.now) {
    const questions = itemsIn(kept).flatMap((item) => item.kind === "question" ? item.message : []);
    this.city = city;
    this.threads = new Threads(kept.threads);
    this.#now = now;
    this.#userId = kept.userId ?? "";
    this.#conversations = new Conversations(kept.conversations);
    this.#telling = new Telling(this.threads, now);
    this.news = this.#telling.news;
    this.#wire();
    this.outbox = new Outbox(city, questions);
    this.outbox.changed.listen((message) => this.threads.question(message, this.#now()));
    city.subscribe(channels);
  }

  /**
   * Says something on a channel.
   *
   * @param {string} channel
   * @param {string} text
   * @returns {boolean} false when too many messages wait already
   */
  say(channel, text) {
    return this.outbox.submit({ channel, text, conversationId: this.#conversations.of(channel) });
  }

  /** What a later life of the page needs to go on. @returns {Kept} */
  keep() {
    return {
      userId: this.#userId,
      past: this.city.keep(),
      conversations: this.#conversations.all(),
      threads: this.threads.all(),
    };
  }

  #wire() {
    const { city, frames, threads } = this;
    const telling = this.#telling;
    city.on("frame", (passing) => frames.add(passing, this.#now()));
    city.on("state", (state) => (this.#userId = state.phase === "connected" ? city.userId : this.#userId));
    city.on("message", (message) => this.#published(message));
    city.on("answer", (answer) => threads.answer(answer));
    city.on("caughtup", ({ missed }) => telling.caughtUp(missed));
    city.on("reset", ({ channel, reason }) => telling.gap(channel, reason));
    city.on("subscribed", ({ channel }) => telling.heard(channel));
    city.on("unsubscribed", ({ channel, refusal, retrying }) =>
      retrying ? telling.unheard(channel, refusal) : telling.ended(channel, refusal));
    city.on("error", (refusal) => telling.refused(refusal));
    city.on("expiring", ({ expiresAt }) => this.expiring.emit(expiresAt));
  }

  /** @param {Message} message */
  #published({ channel, messageId: id, timestamp, sender, payload }) {
    const at = Date.parse(timestamp);
    this.threads.publication(placeOf(channel), { id, at, sender, body: bodyOf(payload) });
  }
}

/** The answers that an earlier life of the page has kept. @param {Partial<Kept>} kept @returns {Answer[]} */
export function answersIn(kept) {
  return itemsIn(kept).flatMap((item) => item.kind === "answer" ? item.answer : []);
}

/** @param {Partial<Kept>} kept */
function itemsIn({ threads = [] }) {
  return threads.flatMap(([, items]) => items);
}
