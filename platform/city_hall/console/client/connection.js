/**
 * One connection that comes back by itself: opens, watches for silence, waits as the close codes ask,
 * resumes. What the frames mean is not its business, but for the welcome that makes it connected.
 */

import { delayBefore } from "./backoff.js";
import { LOCAL, judge } from "./closing.js";
import { decode, encode, encodeBinary } from "./frames.js";
import { Signal } from "./signal.js";
import { Silence } from "./silence.js";

/** @import { Clock } from "./clock.js" */
/** @import { Verdict } from "./closing.js" */
/** @import { ClientFrame, Frame, Welcome } from "./protocol.js" */

/**
 * @typedef {Pick<WebSocket, "send" | "close" | "onmessage" | "onclose">} Socket
 * @typedef {(
 *   { phase: "off" } | { phase: "connecting", attempt: number } | { phase: "connected", welcome: Welcome }
 *   | { phase: "waiting", attempt: number, until: number, verdict: Verdict }
 *   | { phase: "ended", verdict: Verdict }
 * )} State  attempts count from 1 after a loss; 0 is the first connection
 * @typedef {{ direction: "in" | "out" | "note", readonly text: string }} Passing
 *   what went over the wire or befell it; the text is made when it is looked at
 */

export const WELCOME_MS = 10_000;
/** How long a connection in doubt has to say anything at all. */
export const PROBE_MS = 5_000;
/** A connection that lived shorter counts as one more failed attempt. */
export const STEADY_MS = 5_000;
/** Whoever is to come back at once waits for up to so long, so that a crowd is no burst. */
const MOMENT_MS = 200;

export class Connection {
  /** @type {State} */
  state = { phase: "off" };
  /** @type {Signal<State>} */
  changed = new Signal();
  /** @type {Signal<Frame>} */
  heard = new Signal();
  /** @type {Signal<Verdict>} */
  lost = new Signal();
  /** @type {Signal<Passing>} */
  passed = new Signal();

  #openSocket;
  #clock;
  #random;
  #silence;
  /** @type {Socket | null} */
  #socket = null;
  #resume = "";
  #attempt = 0;
  /** Whether the platform speaks MessagePack on this socket, as its welcome shows. */
  #isBinary = false;
  #connectedAt = 0;
  #heartbeatMs = 0;
  #isProbing = false;
  #callOff = () => {};

  /** @param {{ openSocket: (resume: string) => Socket, clock: Clock, random: () => number }} parts */
  constructor({ openSocket, clock, random }) {
    this.#openSocket = openSocket;
    this.#clock = clock;
    this.#random = random;
    this.#silence = new Silence(clock);
  }

  /** @param {string} resume the id of an earlier connection of this page, or "" */
  start(resume = "") {
    this.#resume = resume;
    this.#attempt = 0;
    this.#connect();
  }

  /** A person asks for it: does not wait any longer. Without effect on a living connection. */
  reconnectNow() {
    if (this.state.phase === "waiting" || this.state.phase === "ended") this.#connect();
  }

  /**
   * The network is back, or the page is looked at: no use in waiting, unless the platform asked for it. What
   * seems to be a living connection may have died in its sleep, and has to answer.
   */
  hurry() {
    if (this.state.phase === "waiting" && typeof this.state.verdict.waits !== "number") this.#connect();
    if (this.state.phase === "connected" && this.send({ type: "ping" })) this.#expectSomething();
  }

  /** Takes a new socket under the same connection id, because the session behind it was renewed. */
  renew() {
    if (this.state.phase === "connected") this.#abandon(LOCAL.renewed);
  }

  /** Leaves a platform that has stopped to answer, and comes back. */
  giveUp() {
    if (this.state.phase === "connected") this.#abandon(LOCAL.unanswered);
  }

  /** Says goodbye; the platform need not keep anything for this connection. */
  stop() {
    const socket = this.#release();
    socket?.close(1000);
    this.#set({ phase: "off" });
  }

  /**
   * @param {ClientFrame} frame
   * @returns {boolean} whether it went out; only a connected socket takes frames
   */
  send(frame) {
    if (this.state.phase !== "connected" || !this.#socket) return false;
    this.#socket.send(this.#isBinary ? encodeBinary(frame) : encode(frame));
    this.passed.emit({ direction: "out", get text() { return encode(withoutToken(frame)); } });
    return true;
  }

  #connect() {
    this.#release();
    const socket = this.#openSocket(this.#resume);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#socket === socket && this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#socket === socket && this.#lose(code, reason);
    this.#silence.watch(WELCOME_MS, () => this.#abandon(LOCAL.unanswered));
    this.passed.emit({ direction: "note", text: `opening${this.#resume && `, to resume ${this.#resume}`}` });
    this.#set({ phase: "connecting", attempt: this.#attempt });
  }

  #expectSomething() {
    this.#isProbing = true;
    this.#silence.watch(PROBE_MS, () => this.#abandon(LOCAL.silent));
  }

  /** @param {unknown} data */
  #hear(data) {
    if (this.#isProbing) this.#expectHeartbeats();
    this.#silence.hear();
    const frame = decode(data);
    this.passed.emit({ direction: "in", get text() { return textOf(data, frame); } });
    if (!frame) return;
    if (frame.type === "system" && frame.event === "welcome") {
      this.#isBinary = typeof data !== "string";
      this.#welcomed(frame);
    }
    this.heard.emit(frame);
  }

  /** @param {Welcome} welcome */
  #welcomed(welcome) {
    this.#resume = welcome.connection_id;
    this.#connectedAt = this.#clock.now();
    this.#heartbeatMs = 1000 * welcome.heartbeat_seconds;
    this.#expectHeartbeats();
    this.#set({ phase: "connected", welcome });
  }

  #expectHeartbeats() {
    this.#isProbing = false;
    this.#silence.watch(2 * this.#heartbeatMs, () => this.#abandon(LOCAL.silent));
  }

  /**
   * Leaves a socket without waiting for its close, which a dead peer would never complete.
   *
   * @param {number} code
   */
  #abandon(code) {
    const socket = this.#release();
    this.#lose(code, "");
    socket?.close();
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #lose(code, reason) {
    const wasSteady = this.state.phase === "connected" && this.#clock.now() - this.#connectedAt >= STEADY_MS;
    this.#release();
    const verdict = judge(code, reason);
    if (!verdict.resumes) this.#resume = "";
    this.#attempt = wasSteady ? 1 : this.#attempt + 1;
    this.passed.emit({ direction: "note", text: `closed ${code}${reason && `: ${reason}`}` });
    this.lost.emit(verdict);
    if (verdict.comesBack) this.#wait(verdict);
    else this.#set({ phase: "ended", verdict });
  }

  /** @param {Verdict} verdict */
  #wait(verdict) {
    const delay = this.#delay(verdict);
    this.#callOff = this.#clock.after(delay, () => this.#connect());
    this.#set({ phase: "waiting", attempt: this.#attempt, until: this.#clock.now() + delay, verdict });
  }

  /** @param {Verdict} verdict */
  #delay({ waits }) {
    if (waits === "not" && this.#attempt === 1) return 0;
    if (waits === "moment" && this.#attempt === 1) return Math.floor(this.#random() * MOMENT_MS);
    return (typeof waits === "number" ? waits : 0) + delayBefore(this.#attempt, this.#random);
  }

  /** Ends every watch and wait; returns the socket, which is nobody's from now on. */
  #release() {
    const socket = this.#socket;
    this.#socket = null;
    this.#isProbing = false;
    this.#callOff();
    this.#silence.stop();
    return socket;
  }

  /** @param {State} state */
  #set(state) {
    this.state = state;
    this.changed.emit(state);
  }
}

/** A frame for people, without what is secret. @param {ClientFrame} frame */
function withoutToken(frame) {
  return frame.type === "refresh" ? { ...frame, session_token: "•••" } : frame;
}

/**
 * What came, for people: binary frames as JSON.
 *
 * @param {unknown} data
 * @param {Frame | null} frame
 */
function textOf(data, frame) {
  return typeof data === "string" ? data : frame ? encode(frame) : "(no frame)";
}
