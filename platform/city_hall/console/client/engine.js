/**
 * One connection and everybody who shares it: the tabs of a browser, or a single page alone. Each of them is
 * told what it asked for and nothing else, in plain values that can be sent to another thread.
 */

import { Connection } from "./connection.js";
import { logOf } from "./feed.js";
import { Feeds } from "./feeds.js";
import { Outgoing } from "./outgoing.js";
import { Questions } from "./questions.js";
import { Refreshing } from "./refreshing.js";
import { Stopping } from "./stopping.js";

/** @import { Clock } from "./clock.js" */
/** @import { Passing, Socket, State } from "./connection.js" */
/** @import { Verdict } from "./closing.js" */
/** @import { Refusal } from "./errors.js" */
/** @import { FeedNews } from "./feed.js" */
/** @import { Letter, ProgressNews } from "./outgoing.js" */
/** @import { Ack, ChatResponse, ErrorFrame, Frame, Places, Position, Publication } from "./protocol.js" */
/** @import { Welcome } from "./protocol.js" */

/**
 * @typedef {{ openSocket: (resume: string, token: string) => Socket, clock: Clock, random: () => number }} World
 * @typedef {{ connectionId: string, positions: [string, Position][] }} Past
 *   what a page knew in an earlier life: its connection, and how far it had read its private logs
 * @typedef {(
 *   { ask: "hello", token: string, past: Past, channels: Places, letters: Letter[], isWatching: boolean }
 *   | { ask: "listen", channels: Places } | { ask: "leave", channels: string[] }
 *   | { ask: "send", letter: Letter } | { ask: "forget", id: string } | { ask: "watch" }
 *   | { ask: "stop", messageId: string }
 *   | { ask: "refresh", token: string, id: string } | { ask: "hurry" | "reconnect" | "renew" | "end" | "bye" }
 * )} Request  what a tab wants; `watch` is for every frame that passes
 * @typedef {(
 *   FeedNews | ProgressNews | { news: "state", state: State } | { news: "settled" }
 *   | { news: "refused", channel: string, refusal: Refusal, retrying: boolean }
 *   | { news: "message", frame: Publication } | { news: "response", frame: ChatResponse }
 *   | { news: "expiring", expiresAt: string } | { news: "error", refusal: Refusal }
 *   | { news: "frame", passing: Passing } | { news: "stranger" }
 * )} News  `stranger`: the engine, perhaps another one, knows nothing of this tab, which has to say hello
 * @typedef {{ tell: (news: News) => void, past: Map<string, Position>, isWatching: boolean }} Tab
 */

export class Engine {
  #tabs = /** @type {Set<Tab>} */ (new Set());
  #connection;
  #feeds;
  #outgoing;
  #questions = new Questions();
  #refreshing;
  #stopping;

  /** @param {World} world */
  constructor({ openSocket, clock, random }) {
    const connection = new Connection({ openSocket: (resume) => openSocket(resume, this.#refreshing.token), clock, random });
    const parts = { send: connection.send.bind(connection), clock, random };
    this.#connection = connection;
    this.#feeds = new Feeds(parts, () => connection.giveUp());
    this.#outgoing = new Outgoing(parts);
    this.#refreshing = new Refreshing(parts.send);
    this.#stopping = new Stopping(parts);
    connection.changed.listen((state) => this.#changed(state));
    connection.heard.listen((frame) => this.#hear(frame));
    connection.lost.listen((verdict) => this.#lost(verdict));
    connection.passed.listen((passing) => this.#passed(passing));
  }

  /** How many share this connection. */
  get size() {
    return this.#tabs.size;
  }

  /**
   * Lets one more share the connection.
   *
   * @param {(news: News) => void} tell
   * @returns {(request: Request) => void} takes what it wants, beginning with its hello
   */
  attach(tell) {
    /** @type {Tab} */
    const tab = { tell, past: new Map(), isWatching: false };
    return (request) => this.#serve(tab, request);
  }

  /**
   * @param {Tab} tab
   * @param {Request} request
   */
  #serve(tab, request) {
    if (request.ask === "hello") this.#greet(tab, request);
    else if (!this.#tabs.has(tab)) return;
    else if (request.ask === "listen") this.#feeds.listen(tab, request.channels);
    else if (request.ask === "leave") this.#feeds.leave(tab, request.channels);
    else if (request.ask === "send") this.#outgoing.submit(tab, request.letter);
    else if (request.ask === "forget") this.#callOff(request.id);
    else if (request.ask === "stop") this.#stopping.stop(request.messageId);
    else if (request.ask === "watch") tab.isWatching = true;
    else if (request.ask === "refresh") this.#refreshing.start(tab, request);
    else if (request.ask === "bye") this.#dismiss(tab);
    else this.#steer(request.ask);
  }

  /** What was asked already is to be stopped; what was not is not asked any more. @param {string} id */
  #callOff(id) {
    if (this.#outgoing.forget(id)) this.#stopping.stopOnceKnown(id);
  }

  /** @param {"hurry" | "reconnect" | "renew" | "end"} how */
  #steer(how) {
    if (how === "hurry") this.#connection.hurry();
    else if (how === "reconnect") this.#connection.reconnectNow();
    else if (how === "renew") this.#connection.renew();
    else this.#connection.stop();
  }

  /**
   * @param {Tab} tab
   * @param {Request & { ask: "hello" }} hello
   */
  #greet(tab, { token, past, channels, letters, isWatching }) {
    const { state } = this.#connection;
    this.#forget(tab);
    this.#tabs.add(tab);
    tab.past = new Map(past.positions);
    tab.isWatching = isWatching;
    if (state.phase === "off" || state.phase === "ended") {
      this.#refreshing.token = token;
      this.#connection.start(past.connectionId);
    } else {
      tab.tell({ news: "state", state });
      if (state.phase === "connected") this.#feeds.listen(tab, this.#ownPlaces(tab, ownLogs(state.welcome)));
    }
    this.#feeds.listen(tab, channels);
    for (const letter of letters) this.#outgoing.submit(tab, letter);
  }

  /** @param {Tab} tab */
  #dismiss(tab) {
    this.#forget(tab);
    if (this.#tabs.size === 0) this.#connection.stop();
  }

  /** @param {Tab} tab */
  #forget(tab) {
    this.#tabs.delete(tab);
    this.#questions.forgetAll(tab);
    this.#outgoing.forgetAll(tab);
    this.#feeds.leaveAll(tab);
  }

  /** @param {State} state */
  #changed(state) {
    const isOver = state.phase === "off" || state.phase === "ended";
    if (state.phase === "off") {
      this.#feeds.lost();
      this.#outgoing.end();
    }
    this.#tellAll({ news: "state", state });
    if (isOver) for (const tab of this.#tabs) this.#forget(tab);
  }

  /** @param {Frame} frame */
  #hear(frame) {
    if (frame.type === "message") this.#published(frame);
    else if (frame.type === "chat_response") this.#answered(frame);
    else if (frame.type === "ack") this.#acked(frame);
    else if (frame.type === "error") this.#refused(frame);
    else if (frame.type === "reset") this.#feeds.reset(frame);
    else if (frame.type === "unsubscribed") this.#feeds.ended(frame);
    else if (frame.type === "system" && frame.event === "welcome") this.#welcomed(frame);
    else if (frame.type === "system" && frame.event === "session_expiring") {
      this.#tellAll({ news: "expiring", expiresAt: frame.expires_at });
    }
  }

  /** @param {Welcome} welcome */
  #welcomed(welcome) {
    this.#feeds.welcomed(welcome, (own) => {
      for (const tab of this.#tabs) this.#feeds.join(tab, this.#ownPlaces(tab, own));
    });
    this.#outgoing.flush(welcome.max_message_bytes);
    this.#stopping.flush();
  }

  /** @param {Verdict} verdict */
  #lost(verdict) {
    this.#feeds.lost();
    this.#refreshing.lost();
    this.#stopping.lost();
    this.#outgoing.interrupted(verdict);
    this.#releaseEarly();
  }

  /** @param {Ack} ack */
  #acked(ack) {
    if (this.#feeds.acked(ack) || this.#refreshing.settled(ack.id, null) || this.#stopping.acked(ack)) return;
    const letter = this.#outgoing.acked(ack);
    if (!letter) return;
    if (letter.frame.type !== "publish" && ack.message_id) this.#questions.asked(ack.message_id, letter.sender);
    this.#releaseEarly();
  }

  /** @param {ErrorFrame} error */
  #refused(error) {
    if (this.#outgoing.refused(error)) this.#releaseEarly();
    else if (this.#stopping.refused(error)) return;
    else if (!this.#feeds.refused(error.id, error) && !this.#refreshing.settled(error.id, error)) {
      const { code, message, retryable, retry_after: retryAfter } = error;
      this.#tellAll({ news: "error", refusal: { code, message, retryable, retryAfter } });
    }
  }

  /** What is provisional comes again with its place, and is told then. @param {Publication} frame */
  #published(frame) {
    if (frame.provisional) return;
    for (const tab of this.#take(frame)) tab.tell({ news: "message", frame });
  }

  /** @param {ChatResponse} frame */
  #answered(frame) {
    const hearers = this.#take(frame);
    if (hearers.length === 0) return;
    if (!this.#questions.of(frame) && this.#outgoing.isAsking) this.#questions.keep(frame);
    else this.#tellResponse(frame);
  }

  #releaseEarly() {
    for (const frame of this.#questions.release(this.#outgoing.isAsking)) this.#tellResponse(frame);
  }

  /** To whom asked; to everybody what nobody here has asked, since it is this person's. @param {ChatResponse} frame */
  #tellResponse(frame) {
    const asker = this.#questions.of(frame);
    for (const tab of asker ? [asker] : this.#tabs) tab.tell({ news: "response", frame });
  }

  /** @param {Publication | ChatResponse} frame */
  #take(frame) {
    const { offset, epoch = "" } = frame;
    return this.#feeds.take(logOf(frame), offset === undefined ? null : { offset, epoch });
  }

  /** @param {Passing} passing */
  #passed(passing) {
    for (const tab of this.#tabs) {
      if (tab.isWatching) tab.tell({ news: "frame", passing: { direction: passing.direction, text: passing.text } });
    }
  }

  /** @param {News} news */
  #tellAll(news) {
    for (const tab of this.#tabs) tab.tell(news);
  }

  /**
   * @param {Tab} tab
   * @param {string[]} own
   * @returns {Places}
   */
  #ownPlaces({ past }, own) {
    return Object.fromEntries(own.map((log) => [log, past.get(log) ?? null]));
  }
}

/** @param {Welcome} welcome */
function ownLogs({ connection_id, user_id }) {
  return [`connection:${connection_id}`, `user:${user_id}`];
}
