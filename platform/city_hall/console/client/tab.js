/**
 * One page's side of an engine: what it has asked for, where it stands, and what it makes of the news. All of it
 * can be told again, to the same engine after a silence or to another one.
 */

import { Answers } from "./answers.js";
import { CatchingUp } from "./catching_up.js";
import { deferred } from "./deferred.js";
import { CityError, OWN_CODES } from "./errors.js";
import { Events } from "./events.js";
import { isPrivate } from "./feeds.js";
import { newKey } from "./frames.js";
import { Letters } from "./letters.js";
import { messageOf } from "./messages.js";

/** @import { Answer } from "./answers.js" */
/** @import { Asking } from "./asking.js" */
/** @import { Passing, State } from "./connection.js" */
/** @import { Deferred } from "./deferred.js" */
/** @import { News, Past, Request } from "./engine.js" */
/** @import { Refusal } from "./errors.js" */
/** @import { Recovery } from "./feed.js" */
/** @import { Listening } from "./listening.js" */
/** @import { Gap, Message } from "./messages.js" */
/** @import { Letter, ProgressNews } from "./outgoing.js" */
/** @import { ChatResponse, Payload, Places, Position, Publication } from "./protocol.js" */

/**
 * @typedef {(tell: (news: News) => void) => (request: Request) => void} Through  the way to an engine
 * @typedef {Omit<ProgressNews, "news" | "id"> & { key: string, channel: string, payload: Payload }} ProgressTold
 * @typedef {{
 *   state: State, message: Message, answer: Answer,
 *   reset: { channel: string, position: Position, reason: string },
 *   subscribed: { channel: string, position: Position } & Recovery,
 *   unsubscribed: { channel: string, refusal: Refusal, retrying: boolean },
 *   caughtup: { missed: number }, progress: ProgressTold, expiring: { expiresAt: string }, error: Refusal,
 *   frame: Passing,
 * }} Kinds  the events, each with what it tells
 */

export class Tab {
  /** @type {State} */
  state = { phase: "off" };
  events = /** @type {Events<Kinds>} */ (new Events());

  #request;
  #hasGreeted = false;
  #token;
  #past;
  #answers;
  #isWatching = false;
  #isClosed = false;
  #letters = new Letters();
  #catchingUp = new CatchingUp();
  /** What is listened to, and where each stands. @type {Map<string, Position | null>} */
  #places = new Map();
  /** @type {Map<string, Listening>} */
  #readers = new Map();
  /** What was lost and has not been told with a message yet. @type {Map<string, Gap>} */
  #gaps = new Map();
  /** By the question's message_id. @type {Map<string, Asking>} */
  #askings = new Map();
  /** Tokens on their way, by the ids of their frames. @type {Map<string, Deferred<void>>} */
  #refreshes = new Map();

  /**
   * @param {Through} through
   * @param {{ token: string, past: Partial<Past>, answers: Answer[] }} parts
   */
  constructor(through, { token, past, answers }) {
    this.#token = token;
    this.#past = { connectionId: past.connectionId ?? "", positions: new Map(past.positions) };
    this.#answers = new Answers(answers);
    this.#catchingUp.done.listen((missed) => this.events.emit("caughtup", { missed }));
    this.#request = through((news) => this.#hear(news));
    queueMicrotask(() => this.hello());
  }

  /**
   * Tells the engine everything that is wanted. At first that is once whoever made this has had a turn to want
   * something, and to listen.
   */
  hello() {
    if (this.#isClosed) return;
    const { connectionId, positions } = this.#past;
    const own = [...positions].filter(([log]) => isPrivate(log));
    this.#hasGreeted = true;
    this.#request({
      ask: "hello", token: this.#token, past: { connectionId, positions: own },
      channels: Object.fromEntries(this.#places), letters: this.#letters.letters, isWatching: this.#isWatching,
    });
  }

  /** @param {Exclude<Request, { ask: "hello" }>} request */
  ask(request) {
    if (request.ask === "watch") {
      if (this.#isWatching) return;
      this.#isWatching = true;
    }
    this.#ask(request);
  }

  /**
   * @param {Letter} letter
   * @param {AbortSignal} [signal]
   */
  async post(letter, signal) {
    if (this.#isClosed) throw new CityError("This client was closed.", { code: OWN_CODES.ended });
    signal?.throwIfAborted();
    const { id } = letter.frame;
    const acknowledged = this.#letters.add(letter);
    signal?.addEventListener("abort", () => {
      this.#letters.fail(id, signal.reason);
      this.#ask({ ask: "forget", id });
    }, { once: true });
    this.#ask({ ask: "send", letter });
    return acknowledged;
  }

  /**
   * @param {string} token
   * @returns {Promise<void>} when the platform has taken it, or will with the next socket
   */
  refresh(token) {
    const id = newKey();
    /** @type {Deferred<void>} */
    const waiting = deferred();
    this.#refreshes.set(id, waiting);
    this.#ask({ ask: "refresh", token, id });
    return waiting.promise.then(() => {
      this.#token = token;
    });
  }

  /**
   * The answer to this question is this one's.
   *
   * @param {string} messageId
   * @param {Asking} asking
   */
  expect(messageId, asking) {
    const known = this.#answers.to(messageId);
    this.#askings.set(messageId, asking);
    asking.queued();
    if (known) this.#tellAsking(known);
  }

  /**
   * Listens; a channel without a position goes on where an earlier life of the page stopped.
   *
   * @param {Places} places
   * @param {Listening | null} reader
   */
  open(places, reader) {
    const names = Object.keys(places);
    const taken = names.filter((name) => this.#places.has(name));
    if (taken.length > 0) throw new TypeError(`already listening to ${taken}: one reader per channel and City`);
    for (const [name, position] of Object.entries(places)) {
      this.#places.set(name, position ?? this.#past.positions.get(name) ?? null);
      if (reader) this.#readers.set(name, reader);
    }
    this.#ask({ ask: "listen", channels: Object.fromEntries(names.map((name) => [name, this.#places.get(name) ?? null])) });
  }

  /** @param {string[]} names */
  leave(names) {
    const left = names.filter((name) => this.#drop(name, null) && !isPrivate(name));
    if (left.length > 0) this.#ask({ ask: "leave", channels: left });
  }

  /** @returns {Past} */
  keep() {
    const { connectionId, positions } = this.#past;
    const places = [...this.#places].flatMap(([name, position]) => position ? [pair(name, position)] : []);
    return { connectionId, positions: [...new Map([...positions, ...places])] };
  }

  /** Nothing more is asked or heard. @param {string} sentence */
  close(sentence) {
    this.#isClosed = true;
    this.state = { phase: "off" };
    this.#finish(new CityError(sentence, { code: OWN_CODES.ended }), null);
    this.events.emit("state", this.state);
  }

  /** @param {News} news */
  #hear(news) {
    if (this.#isClosed) return;
    if (news.news === "message") this.#published(news.frame);
    else if (news.news === "response") this.#answered(news.frame);
    else if (news.news === "state") this.#changed(news.state);
    else if (news.news === "progress") this.#progressed(news);
    else if (news.news === "joined") this.#joined(news);
    else if (news.news === "settled") this.#catchingUp.begin();
    else if (news.news === "reset") this.#broke(news);
    else if (news.news === "refused") this.#refused(news);
    else if (news.news === "expiring") this.events.emit("expiring", { expiresAt: news.expiresAt });
    else if (news.news === "error") this.events.emit("error", news.refusal);
    else if (news.news === "stranger") this.hello();
    else this.events.emit("frame", news.passing);
  }

  /** @param {State} state */
  #changed(state) {
    this.state = state;
    if (state.phase === "connected") this.#arrived(state.welcome.connection_id, state.welcome.user_id);
    else this.#catchingUp.giveUp();
    if (state.phase === "ended" || state.phase === "off") {
      const sentence = state.phase === "ended" ? state.verdict.sentence : "The connection was ended.";
      const error = new CityError(sentence, { code: OWN_CODES.ended });
      this.#finish(error, error);
    }
    this.events.emit("state", state);
  }

  /**
   * @param {string} connectionId
   * @param {string} userId
   */
  #arrived(connectionId, userId) {
    const own = [`connection:${connectionId}`, `user:${userId}`];
    this.#past.connectionId = connectionId;
    for (const log of this.#past.positions.keys()) {
      if (isPrivate(log) && !own.includes(log)) this.#past.positions.delete(log);
    }
  }

  /** @param {Publication} frame */
  #published(frame) {
    const { channel, offset, epoch = "" } = frame;
    const message = messageOf(frame, this.#gaps.get(channel) ?? null);
    this.#gaps.delete(channel);
    if (offset !== undefined) {
      this.#move(channel, { offset, epoch });
      this.#readers.get(channel)?.put(message);
    }
    this.events.emit("message", message);
    this.#catchingUp.reached(channel, offset);
  }

  /** @param {ChatResponse} frame */
  #answered(frame) {
    const { log, offset, epoch = "" } = frame;
    const answer = this.#answers.apply(frame);
    if (offset !== undefined) this.#move(log, { offset, epoch });
    if (answer) this.#tellAsking(answer);
    if (answer) this.events.emit("answer", answer);
    this.#catchingUp.reached(log, offset);
  }

  /** @param {Answer} answer */
  #tellAsking(answer) {
    this.#askings.get(answer.question)?.heard(answer);
    if (answer.state === "done" || answer.state === "failed") this.#askings.delete(answer.question);
  }

  /** @param {ProgressNews} news */
  #progressed(news) {
    const frame = this.#letters.follow(news);
    if (!frame) {
      this.#refreshed(news);
      return;
    }
    const { news: _news, id: _id, ...progress } = news;
    const { key, channel, payload } = frame;
    this.events.emit("progress", { ...progress, key, channel, payload });
  }

  /** @param {ProgressNews} news */
  #refreshed({ id, refusal }) {
    const waiting = this.#refreshes.get(id);
    if (refusal) waiting?.reject(CityError.of(refusal));
    else waiting?.resolve();
    this.#refreshes.delete(id);
  }

  /** @param {News & { news: "joined" }} news */
  #joined({ news: _news, ...joined }) {
    const { channel, position, recovered, reason = "" } = joined;
    if (recovered === false) this.#lose(channel, reason);
    this.#move(channel, position);
    this.#readers.get(channel)?.joined(channel, position);
    this.#catchingUp.joined(joined);
    if (recovered === false) this.events.emit("reset", { channel, position, reason });
    this.events.emit("subscribed", joined);
  }

  /** @param {News & { news: "reset" }} news */
  #broke({ channel, position, reason }) {
    this.#lose(channel, reason);
    this.#move(channel, position);
    this.#catchingUp.reached(channel, Infinity);
    this.events.emit("reset", { channel, position, reason });
  }

  /**
   * Something on this log will never come: what is being written there may be part of it.
   *
   * @param {string} channel
   * @param {string} reason
   */
  #lose(channel, reason) {
    const after = this.#gaps.get(channel)?.after ?? this.#places.get(channel) ?? null;
    if (this.#places.has(channel)) this.#gaps.set(channel, { reason, after });
    if (!isPrivate(channel)) return;
    for (const answer of this.#answers.interrupt()) this.events.emit("answer", answer);
  }

  /** @param {News & { news: "refused" }} news */
  #refused({ channel, refusal, retrying }) {
    const error = CityError.of(refusal);
    const reader = this.#readers.get(channel);
    if (!retrying) this.#drop(channel, error);
    if (!retrying && reader) this.leave(reader.channels);
    this.events.emit("unsubscribed", { channel, refusal, retrying });
  }

  /**
   * @param {string} log
   * @param {Position} position
   */
  #move(log, position) {
    if (this.#places.has(log)) this.#places.set(log, position);
    if (isPrivate(log)) this.#past.positions.set(log, position);
  }

  /** What is wanted before the hello is told with it. @param {Request} request */
  #ask(request) {
    if (this.#hasGreeted) this.#request(request);
  }

  /**
   * @param {string} name
   * @param {unknown} error for its reader
   */
  #drop(name, error) {
    this.#readers.get(name)?.end(error);
    this.#readers.delete(name);
    this.#gaps.delete(name);
    return this.#places.delete(name);
  }

  /**
   * Whoever waits for something is told that it will not come.
   *
   * @param {CityError} error
   * @param {CityError | null} readersError null where reading simply ends
   */
  #finish(error, readersError) {
    for (const name of [...this.#readers.keys()]) this.#drop(name, readersError);
    for (const asking of this.#askings.values()) asking.fail(error);
    this.#askings.clear();
    this.#letters.failAll(error);
    for (const waiting of this.#refreshes.values()) waiting.reject(error);
    this.#refreshes.clear();
  }
}

/**
 * @param {string} name
 * @param {Position} position
 * @returns {[string, Position]}
 */
function pair(name, position) {
  return [name, position];
}
