/**
 * The city as one page sees it: the parts of the client put together, and every frame handed to the part that
 * it concerns. It decides nothing that a part could decide.
 */

import { Answers } from "./answers.js";
import { bodyOf } from "./bodies.js";
import { CatchingUp } from "./catching_up.js";
import { Connection } from "./connection.js";
import { Conversations } from "./conversations.js";
import { FrameLog } from "./frame_log.js";
import { Outgoing } from "./outgoing.js";
import { FOR_YOU, placeOf } from "./places.js";
import { Positions, logOf } from "./positions.js";
import { Signal } from "./signal.js";
import { Subscriptions } from "./subscriptions.js";
import { Telling } from "./telling.js";
import { Threads } from "./threads.js";

/** @import { Clock } from "./clock.js" */
/** @import { Verdict } from "./closing.js" */
/** @import { Socket } from "./connection.js" */
/** @import { Kept } from "./keepsake.js" */
/** @import { ChatResponse, ErrorFrame, Frame, Publication } from "./protocol.js" */
/** @import { Reset, SessionExpiring, Welcome } from "./protocol.js" */
/** @import { Outcome } from "./subscriptions.js" */

/** @typedef {{ openSocket: (resume: string) => Socket, clock: Clock, random: () => number }} World */

export class City {
  frames = new FrameLog();
  /** When the session ends, told a minute before. @type {Signal<string>} */
  expiring = new Signal();
  threads;
  connection;
  outgoing;
  news;

  #clock;
  #answers;
  #positions;
  #subscriptions;
  #catchingUp = new CatchingUp();
  #telling;
  #conversations;
  #who;

  /**
   * @param {string[]} channels
   * @param {World} world
   * @param {Partial<Kept>} kept of an earlier life of the page
   */
  constructor(channels, world, kept = {}) {
    const items = (kept.threads ?? []).flatMap(([, thread]) => thread);
    const questions = items.filter((item) => item.kind === "question").map(({ message }) => message);
    const answers = items.filter((item) => item.kind === "answer").map(({ answer }) => answer);
    this.#clock = world.clock;
    this.#who = { userId: kept.userId ?? "", connectionId: kept.connectionId ?? "" };
    this.#conversations = new Conversations(kept.conversations);
    this.#answers = new Answers(answers);
    this.#positions = new Positions(kept.positions);
    this.threads = new Threads(kept.threads);
    this.connection = new Connection(world);
    this.outgoing = new Outgoing((frame) => this.connection.send(frame), world.clock, questions);
    this.#telling = new Telling(this.threads, world.clock);
    this.news = this.#telling.news;
    this.#subscriptions = new Subscriptions(channels, {
      positions: this.#positions,
      send: (frame) => this.connection.send(frame),
      clock: world.clock,
      random: world.random,
    });
    this.#wire();
  }

  /**
   * Says something on a channel.
   *
   * @param {string} channel
   * @param {string} text
   * @returns {boolean} false when too many messages wait already
   */
  say(channel, text) {
    return this.outgoing.submit({ channel, text, conversationId: this.#conversations.of(channel) }) !== null;
  }

  /** What a later life of the page needs to go on. @returns {Kept} */
  keep() {
    return {
      ...this.#who,
      positions: this.#positions.all(),
      conversations: this.#conversations.all(),
      threads: this.threads.all(),
    };
  }

  #wire() {
    const { connection, outgoing, frames, threads } = this;
    connection.passed.listen((passing) => frames.add(passing, this.#clock.now()));
    connection.heard.listen((frame) => this.#hear(frame));
    connection.lost.listen((verdict) => this.#lost(verdict));
    outgoing.changed.listen((message) => threads.question(message, this.#clock.now()));
    this.#subscriptions.settled.listen((outcome) => this.#settled(outcome));
    this.#catchingUp.done.listen((messages) => this.#telling.caughtUp(messages));
  }

  /** @param {Frame} frame */
  #hear(frame) {
    if (frame.type === "message") this.#published(frame);
    else if (frame.type === "chat_response") this.#answered(frame);
    else if (frame.type === "ack") this.#subscriptions.acked(frame) || this.outgoing.acked(frame);
    else if (frame.type === "error") this.#refused(frame);
    else if (frame.type === "reset") this.#reset(frame);
    else if (frame.type === "unsubscribed") this.#unsubscribed(frame.channel, frame.message);
    else if (frame.type === "system") this.#heardOfItself(frame);
  }

  /** @param {Welcome | SessionExpiring} frame */
  #heardOfItself(frame) {
    if (frame.event === "welcome") this.#welcomed(frame);
    else if (frame.event === "session_expiring") this.expiring.emit(frame.expires_at);
  }

  /** @param {Welcome} welcome */
  #welcomed(welcome) {
    this.#who = { userId: welcome.user_id, connectionId: welcome.connection_id };
    this.#subscriptions.begin(welcome);
    this.outgoing.flush(welcome.max_message_bytes);
  }

  /** @param {Verdict} verdict */
  #lost(verdict) {
    this.#subscriptions.pause();
    this.#catchingUp.giveUp();
    this.outgoing.interrupted(verdict);
  }

  /** @param {Outcome} outcome */
  #settled({ joined, refused }) {
    for (const [log, { recovered, reason = "" }] of joined) if (recovered === false) this.#gap(log, reason);
    for (const [log, refusal] of refused) this.#telling.closed(log, refusal);
    this.#catchingUp.begin(joined);
  }

  /** @param {Publication} frame */
  #published(frame) {
    const { channel, message_id: id, timestamp, sender, payload } = frame;
    const at = Date.parse(timestamp);
    this.threads.publication(placeOf(channel), { id, at, sender, body: bodyOf(payload) });
    this.#follow(frame);
  }

  /** @param {ChatResponse} frame */
  #answered(frame) {
    const answer = this.#answers.apply(frame);
    if (answer) this.threads.answer(answer);
    this.#follow(frame);
  }

  /** @param {Publication | ChatResponse} frame */
  #follow(frame) {
    this.#positions.follow(frame);
    this.#catchingUp.reached(logOf(frame), frame.offset);
  }

  /** @param {ErrorFrame} frame */
  #refused(frame) {
    const { id, retry_after: retryAfter } = frame;
    const isKnown = this.outgoing.refused(id, frame, retryAfter) || this.#subscriptions.refused(id, frame);
    if (!isKnown) this.#telling.refused(frame, retryAfter);
  }

  /** @param {Reset} frame */
  #reset({ channel, reason, ...position }) {
    this.#positions.set(channel, position);
    this.#catchingUp.reached(channel, Infinity);
    this.#gap(channel, reason);
  }

  /**
   * @param {string} channel
   * @param {string} message
   */
  #unsubscribed(channel, message) {
    this.#subscriptions.ended(channel);
    this.#telling.ended(channel, message);
  }

  /**
   * @param {string} log
   * @param {string} reason
   */
  #gap(log, reason) {
    this.#telling.gap(log, reason);
    if (placeOf(log) !== FOR_YOU) return;
    for (const answer of this.#answers.interrupt()) this.threads.answer(answer);
  }
}
