/**
 * Where tabs come together: each is led to the engine of its address and token, and watched, since a tab may die
 * without a word. It runs in a SharedWorker, but knows only ports.
 */

import { Engine } from "./engine.js";

/** @import { Encoding } from "./addresses.js" */
/** @import { Clock } from "./clock.js" */
/** @import { News, Request, World } from "./engine.js" */

/**
 * @typedef {(
 *   { kind: "open", url: string, token: string, encoding: Encoding } | { kind: "ask", request: Request } | { kind: "here" }
 *   | { kind: "probe" } | { kind: "holds", lock: string }
 * )} Said  by a tab; `here` answers a `ping`, `probe` asks for one; the lock that a tab `holds` is free when it is gone
 * @typedef {(
 *   { kind: "ready", lock: string } | { kind: "ping" | "stranger" } | { kind: "news", news: News }
 * )} Heard  by a tab; the `lock` is free when the worker is gone, "" where there are none; `stranger`: it was taken
 *   for dead and has to say hello again
 * @typedef {{ own: string, whenFree: (lock: string, then: () => void) => void }} Locks
 *   the lock that this hall holds, and how it notices that another's is free
 * @typedef {Pick<MessagePort, "postMessage" | "onmessage">} Port
 * @typedef {{
 *   port: Port, url: string, token: string, encoding: Encoding, heardAt: number, engine: Engine | null,
 *   serve: (request: Request) => void, refreshes: Map<string, string>,
 * }} Guest  `engine`: null when none knows of it; `refreshes`: tokens on their way, by the ids of their frames
 */

export const PING_MS = 15_000;
/** A tab that says nothing for so long is dead, or frozen, which is the same until it wakes. */
export const GONE_MS = 50_000;

export class Hall {
  #worldOf;
  #clock;
  #locks;
  /** @type {Set<Guest>} */
  #guests = new Set();
  /** By address, token and encoding; after a refresh an engine has two. @type {Map<string, Engine>} */
  #engines = new Map();

  /**
   * @param {(url: string, encoding: Encoding) => World} worldOf
   * @param {Clock} clock
   * @param {Locks} locks by which a death is noticed at once, where a browser has them
   */
  constructor(worldOf, clock, locks = { own: "", whenFree: () => {} }) {
    this.#worldOf = worldOf;
    this.#clock = clock;
    this.#locks = locks;
  }

  /** How many tabs there are, as far as one can tell. */
  get size() {
    return this.#guests.size;
  }

  /** A tab comes in. @param {Port} port */
  receive(port) {
    /** @type {Guest} */
    const guest = { port, url: "", token: "", encoding: "json", heardAt: 0, engine: null, serve: () => {}, refreshes: new Map() };
    port.onmessage = ({ data }) => this.#hear(guest, data);
  }

  /**
   * @param {Guest} guest
   * @param {Said} said
   */
  #hear(guest, said) {
    guest.heardAt = this.#clock.now();
    if (said.kind === "open") this.#open(guest, said);
    else if (said.kind === "ask") this.#ask(guest, said.request);
    else if (said.kind === "holds") this.#locks.whenFree(said.lock, () => this.#bury(guest));
    else this.#answer(guest, said.kind);
  }

  /**
   * @param {Guest} guest
   * @param {{ url: string, token: string, encoding: Encoding }} where
   */
  #open(guest, { url, token, encoding }) {
    Object.assign(guest, { url, token, encoding });
    tell(guest, { kind: "ready", lock: this.#locks.own });
  }

  /**
   * @param {Guest} guest
   * @param {"here" | "probe"} said
   */
  #answer(guest, said) {
    if (said === "probe") tell(guest, { kind: "ping" });
    if (!this.#guests.has(guest)) tell(guest, { kind: "stranger" });
  }

  /**
   * @param {Guest} guest
   * @param {Request} request
   */
  #ask(guest, request) {
    if (request.ask === "hello") this.#lead(guest);
    if (!guest.engine) {
      tell(guest, { kind: "stranger" });
      return;
    }
    if (request.ask === "refresh") guest.refreshes.set(request.id, request.token);
    guest.serve(request);
    if (request.ask === "bye") this.#lose(guest);
    this.#tidy();
  }

  /** Leads a tab to the engine that it shares with others. @param {Guest} guest */
  #lead(guest) {
    const name = nameOf(guest);
    const engine = this.#engines.get(name) ?? new Engine(this.#worldOf(guest.url, guest.encoding));
    this.#engines.set(name, engine);
    if (guest.engine === engine) return;
    guest.engine = engine;
    guest.serve = engine.attach((news) => this.#pass(guest, news));
    if (this.#guests.size === 0) this.#clock.after(PING_MS, () => this.#look());
    this.#guests.add(guest);
  }

  /**
   * Who comes with a new token finds the same engine, once the platform has taken it: a refused one may be another
   * person's.
   *
   * @param {Guest} guest
   * @param {News} news
   */
  #pass(guest, news) {
    const token = news.news === "progress" ? guest.refreshes.get(news.id) : undefined;
    if (token !== undefined && news.news === "progress") {
      guest.refreshes.delete(news.id);
      if (!news.refusal && guest.engine) this.#engines.set(nameOf(Object.assign(guest, { token })), guest.engine);
    }
    tell(guest, { kind: "news", news });
  }

  /** Looks who is still there. */
  #look() {
    for (const guest of this.#guests) {
      if (this.#clock.now() - guest.heardAt > GONE_MS) this.#bury(guest);
      else tell(guest, { kind: "ping" });
    }
    if (this.#guests.size > 0) this.#clock.after(PING_MS, () => this.#look());
  }

  /** @param {Guest} guest */
  #bury(guest) {
    if (!this.#guests.has(guest)) return;
    guest.serve({ ask: "bye" });
    this.#lose(guest);
    this.#tidy();
  }

  /** @param {Guest} guest */
  #lose(guest) {
    guest.engine = null;
    this.#guests.delete(guest);
  }

  /** Engines that nobody shares any more are over. */
  #tidy() {
    for (const [name, engine] of this.#engines) if (engine.size === 0) this.#engines.delete(name);
  }
}

/** @param {Guest} guest */
function nameOf({ url, token, encoding }) {
  return `${url}\n${token}\n${encoding}`;
}

/**
 * @param {Guest} guest
 * @param {Heard} heard
 */
function tell({ port }, heard) {
  port.postMessage(heard);
}
