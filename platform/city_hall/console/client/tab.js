/**
 * One page's side of an engine: what it has asked for, and what it makes of the news. All of it can be told again,
 * to the same engine after a silence or to another one.
 */

import { Answers } from "./answers.js";
import { CatchingUp } from "./catching_up.js";
import { CityError, OWN_CODES } from "./errors.js";
import { Events } from "./events.js";
import { isPrivate } from "./feeds.js";
import { newKey } from "./frames.js";
import { Standing } from "./standing.js";
import { Unsettled } from "./unsettled.js";

/** @import { Answer } from "./answers.js" */
/** @import { Asking } from "./asking.js" */
/** @import { Passing, State } from "./connection.js" */
/** @import { News, Past, Request } from "./engine.js" */
/** @import { Refusal } from "./errors.js" */
/** @import { Recovery } from "./feed.js" */
/** @import { Listening } from "./listening.js" */
/** @import { Message } from "./messages.js" */
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
  #token;
  #connectionId;
  #standing;
  #answers;
  #hasGreeted = false;
  #isWatching = false;
  #isClosed = false;
  #unsettled = new Unsettled();
  #catchingUp = new CatchingUp();

  /**
   * @param {Through} through
   * @param {{ token: string, past: Partial<Past>, answers: Answer[] }} parts
   */
  constructor(through, { token, past, answers }) {
    this.#token = token;
    this.#connectionId = past.connectionId ?? "";
    this.#standing = new Standing(past.positions);
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
    this.#hasGreeted = true;
    this.#request({
      ask: "hello", token: this.#token, channels: this.#standing.places, letters: this.#unsettled.letters.letters,
      past: { connectionId: this.#connectionId, positions: this.#standing.ownPositions },
      isWatching: this.#isWatching,
    });
  }

  /** What is wanted before the hello is told with it. @param {Exclude<Request, { ask: "hello" }>} request */
  ask(request) {
    if (this.#hasGreeted) this.#request(request);
  }

  /** Wants every frame that passes from now on. */
  watch() {
    if (!this.#isWatching) this.ask({ ask: "watch" });
    this.#isWatching = true;
  }

  /**
   * @param {Letter} letter
   * @param {AbortSignal} [signal]
   */
  async post(letter, signal) {
    if (this.#isClosed) throw new CityError("This client was closed.", { code: OWN_CODES.ended });
    signal?.throwIfAborted();
    const acknowledged = this.#unsettled.letters.add(letter);
    const { id } = letter.frame;
    const callOff = () => {
      this.#unsettled.letters.fail(id, signal?.reason);
      this.ask({ ask: "forget", id });
    };
    signal?.addEventListener("abort", callOff);
    this.ask({ ask: "send", letter });
    return acknowledged.finally(() => signal?.removeEventListener("abort", callOff));
  }

  /**
   * @param {string} token
   * @returns {Promise<void>} when the platform has taken it, or will with the next socket
   */
  async refresh(token) {
    if (this.#hasGreeted) await this.#bring(token);
    this.#token = token;
  }

  /**
   * The answer to this question is this one's.
   *
   * @param {string} messageId
   * @param {Asking} asking
   */
  expect(messageId, asking) {
    const known = this.#answers.to(messageId);
    this.#unsettled.expect(messageId, asking);
    if (known) this.#unsettled.heard(known);
  }

  /**
   * @param {Places} places
   * @param {Listening | null} reader
   */
  open(places, reader) {
    this.ask({ ask: "listen", channels: this.#standing.open(places, reader) });
  }

  /** @param {string[]} names */
  leave(names) {
    const left = this.#standing.drop(names, null);
    if (left.length > 0) this.ask({ ask: "leave", channels: left });
  }

  /** @returns {Past} */
  keep() {
    return { connectionId: this.#connectionId, positions: this.#standing.positions };
  }

  /** Nothing more is asked or heard. @param {string} sentence */
  close(sentence) {
    this.#isClosed = true;
    this.state = { phase: "off" };
    this.#standing.endReaders(null);
    this.#unsettled.giveUp(new CityError(sentence, { code: OWN_CODES.ended }));
    this.events.emit("state", this.state);
  }

  /** @param {string} token */
  #bring(token) {
    const id = newKey();
    const taken = this.#unsettled.refreshing(id);
    this.ask({ ask: "refresh", token, id });
    return taken;
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
    else if (news.news === "stranger") this.hello();
    else if (news.news === "expiring") this.events.emit("expiring", { expiresAt: news.expiresAt });
    else if (news.news === "error") this.events.emit("error", news.refusal);
    else this.events.emit("frame", news.passing);
  }

  /** @param {State} state */
  #changed(state) {
    this.state = state;
    if (state.phase === "connected") {
      const { connection_id: connectionId, user_id: userId } = state.welcome;
      this.#connectionId = connectionId;
      this.#standing.arrived([`connection:${connectionId}`, `user:${userId}`]);
    } else this.#catchingUp.giveUp();
    if (state.phase === "ended" || state.phase === "off") {
      const sentence = state.phase === "ended" ? state.verdict.sentence : "The connection was ended.";
      const error = new CityError(sentence, { code: OWN_CODES.ended });
      this.#standing.endReaders(error);
      this.#unsettled.giveUp(error);
    }
    this.events.emit("state", state);
  }

  /** @param {Publication} frame */
  #published(frame) {
    this.events.emit("message", this.#standing.take(frame));
    this.#catchingUp.reached(frame.channel, frame.offset);
  }

  /** @param {ChatResponse} frame */
  #answered(frame) {
    const { log, offset, epoch = "" } = frame;
    const answer = this.#answers.apply(frame);
    if (offset !== undefined) this.#standing.moveTo(log, { offset, epoch });
    if (answer) this.#unsettled.heard(answer);
    if (answer) this.events.emit("answer", answer);
    this.#catchingUp.reached(log, offset);
  }

  /** @param {ProgressNews} news */
  #progressed(news) {
    const frame = this.#unsettled.letters.follow(news);
    const { news: _news, id, ...progress } = news;
    if (!frame) this.#unsettled.refreshed(id, news.refusal);
    else this.events.emit("progress", { ...progress, key: frame.key, channel: frame.channel, payload: frame.payload });
  }

  /** @param {News & { news: "joined" }} news */
  #joined({ news: _news, ...joined }) {
    const { channel, position, recovered, reason = "" } = joined;
    if (recovered === false) this.#lost(channel, reason);
    this.#standing.joined(channel, position);
    this.#catchingUp.joined(joined);
    if (recovered === false) this.events.emit("reset", { channel, position, reason });
    this.events.emit("subscribed", joined);
  }

  /** @param {News & { news: "reset" }} news */
  #broke({ channel, position, reason }) {
    this.#lost(channel, reason);
    this.#standing.moveTo(channel, position);
    this.#catchingUp.reached(channel, Infinity);
    this.events.emit("reset", { channel, position, reason });
  }

  /**
   * Something on this log will never come: on one's own, what is being written may be part of it.
   *
   * @param {string} channel
   * @param {string} reason
   */
  #lost(channel, reason) {
    this.#standing.lost(channel, reason);
    const interrupted = isPrivate(channel) ? this.#answers.interrupt() : [];
    for (const answer of interrupted) this.events.emit("answer", answer);
  }

  /** @param {News & { news: "refused" }} news */
  #refused({ channel, refusal, retrying }) {
    if (!retrying) {
      const together = this.#standing.readWith(channel);
      this.#standing.drop([channel], CityError.of(refusal));
      this.leave(together);
    }
    this.events.emit("unsubscribed", { channel, refusal, retrying });
  }
}
