/**
 * The city as one page sees it: the parts of the client put together, and every frame handed to the part that it
 * concerns. It decides nothing that a part could decide.
 */

import { Answers } from "./answers.js";
import { bodyOf } from "./bodies.js";
import { wordsFor } from "./channel_words.js";
import { CatchingUp } from "./catching_up.js";
import { Connection } from "./connection.js";
import { FrameLog } from "./frame_log.js";
import { newKey } from "./frames.js";
import { Outgoing } from "./outgoing.js";
import { FOR_YOU, placeOf } from "./places.js";
import { Positions, logOf } from "./positions.js";
import { Signal } from "./signal.js";
import { Subscriptions } from "./subscriptions.js";
import { Threads } from "./threads.js";
import { counted, gapInWords, refusalInWords } from "./words.js";

/** @import { Clock } from "./clock.js" */
/** @import { Socket } from "./connection.js" */
/** @import { ChatResponse, ErrorFrame, Frame, Publication, Reset, Welcome } from "./protocol.js" */
/** @import { Outcome } from "./subscriptions.js" */

/**
 * @typedef {{ openSocket: (resume: string) => Socket, clock: Clock, random: () => number }} World
 * @typedef {{ tone: "good" | "bad", text: string }} News  worth a line, not worth keeping
 */

export class City {
  threads = new Threads();
  frames = new FrameLog();
  connection;
  outgoing;
  /** @type {Signal<News>} */
  news = new Signal();
  /** When the session ends, told a minute before. @type {Signal<string>} */
  expiring = new Signal();

  #clock;
  #answers = new Answers();
  #positions = new Positions();
  #subscriptions;
  #catchingUp = new CatchingUp();
  /** @type {Map<string, string>} one opaque conversation id for each channel */
  #conversations = new Map();

  /**
   * @param {string[]} channels
   * @param {World} world
   */
  constructor(channels, world) {
    this.#clock = world.clock;
    this.connection = new Connection(world);
    this.outgoing = new Outgoing((frame) => this.connection.send(frame), world.clock);
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
    const conversationId = this.#conversations.get(channel) ?? newKey();
    this.#conversations.set(channel, conversationId);
    return this.outgoing.submit({ channel, text, conversationId }) !== null;
  }

  #wire() {
    const { connection, outgoing, frames, threads } = this;
    connection.passed.listen((passing) => frames.add(passing, this.#clock.now()));
    connection.heard.listen((frame) => this.#hear(frame));
    connection.lost.listen((verdict) => {
      this.#subscriptions.pause();
      this.#catchingUp.giveUp();
      outgoing.interrupted(verdict);
    });
    outgoing.changed.listen((message) => threads.question(message, this.#clock.now()));
    this.#subscriptions.settled.listen((outcome) => this.#settled(outcome));
    this.#catchingUp.done.listen((messages) => this.#caughtUp(messages));
  }

  /** @param {Frame} frame */
  #hear(frame) {
    if (frame.type === "message") this.#published(frame);
    else if (frame.type === "chat_response") this.#answered(frame);
    else if (frame.type === "ack") this.#subscriptions.acked(frame) || this.outgoing.acked(frame);
    else if (frame.type === "error") this.#refused(frame);
    else if (frame.type === "reset") this.#reset(frame);
    else if (frame.type === "unsubscribed") this.#unsubscribed(frame.channel, frame.message);
    else if (frame.type === "system" && frame.event === "welcome") this.#welcomed(frame);
    else if (frame.type === "system" && frame.event === "session_expiring") this.expiring.emit(frame.expires_at);
  }

  /** @param {Welcome} welcome */
  #welcomed(welcome) {
    this.#subscriptions.begin(welcome);
    this.outgoing.flush(welcome.max_message_bytes);
  }

  /** @param {number} messages */
  #caughtUp(messages) {
    const what = messages > 0 ? counted(messages, "message") : "nothing was missed";
    this.news.emit({ tone: "good", text: `Caught up: ${what}.` });
  }

  /** @param {Outcome} outcome */
  #settled({ joined, refused }) {
    for (const [log, { recovered, reason = "" }] of joined) {
      if (recovered === false) this.#lostStretch(log, reason);
    }
    for (const [log, refusal] of refused) {
      this.#notice(log, "error", `This channel cannot be heard now. ${refusalInWords(refusal)}`);
    }
    this.#catchingUp.begin(joined);
  }

  /** @param {Publication} frame */
  #published(frame) {
    this.#follow(frame);
    this.threads.publication(placeOf(frame.channel), {
      id: frame.message_id, at: Date.parse(frame.timestamp), sender: frame.sender, body: bodyOf(frame.payload),
    });
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
    const isOurs = this.outgoing.refused(frame.id, frame, frame.retry_after) ||
      this.#subscriptions.refused(frame.id, frame);
    if (!isOurs) this.news.emit({ tone: "bad", text: refusalInWords(frame, frame.retry_after) });
  }

  /** @param {Reset} frame */
  #reset(frame) {
    this.#positions.set(frame.channel, frame);
    this.#catchingUp.reached(frame.channel, Infinity);
    this.#lostStretch(frame.channel, frame.reason);
  }

  /**
   * @param {string} channel
   * @param {string} message
   */
  #unsubscribed(channel, message) {
    this.#subscriptions.ended(channel);
    this.#notice(channel, "error", `The platform ended this channel for you: ${message}`);
  }

  /**
   * @param {string} log
   * @param {string} reason
   */
  #lostStretch(log, reason) {
    const { title } = wordsFor(placeOf(log));
    const sentence = `Something is missing here and could not be recovered: ${gapInWords(reason)}.`;
    this.#notice(log, "gap", sentence);
    this.news.emit({ tone: "bad", text: `Could not recover ${title}: ${gapInWords(reason)}.` });
    if (placeOf(log) === FOR_YOU) this.#answers.interrupt().forEach((answer) => this.threads.answer(answer));
  }

  /**
   * @param {string} log
   * @param {"gap" | "error"} tone
   * @param {string} text
   */
  #notice(log, tone, text) {
    this.threads.notice(placeOf(log), { tone, text, at: this.#clock.now() });
  }
}
