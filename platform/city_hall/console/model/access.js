/**
 * What the operator's pages may do: the token that was given to this tab, whose it is, and calls made with it.
 * The token stays in this tab's memory and storage; it is in no address, no log and no message of an error.
 */

import { OperationError, Signal, delayBefore } from "../client/index.js";
import { sentenceOf } from "./words.js";

/** @import { Clock } from "../client/index.js" */
/** @import { CallOptions } from "../client/index.js" */

/**
 * @typedef {{
 *   kind: "session" | "service" | "operator", id: string, credential: string, scopes: string[],
 *   channels: Record<string, string[]>, expires_at?: string,
 * }} CallerIdentity  as `traffic_cop.get_caller_identity` answers
 * @typedef {(
 *   { phase: "closed", sentence: string } | { phase: "asking", sentence: string }
 *   | { phase: "open", identity: CallerIdentity }
 * )} AccessState  `sentence`: why, "" when there is nothing to explain
 * @typedef {(token: string, name: string, args?: object, options?: CallOptions) => Promise<any>} Ask
 * @typedef {{
 *   storage: Pick<Storage, "getItem" | "setItem" | "removeItem">, ask: Ask, clock: Clock, random: () => number,
 * }} World
 */

const NAME = "smart-city.operator-token";
const WHO = "traffic_cop.get_caller_identity";
const OVER = "This token is not good any more: it has expired or was revoked.";
const A_PERSONS = "That is a person's session. It can talk; these pages need a service's or the operator's token.";

export class Access {
  /** @type {Signal<AccessState>} */
  changed = new Signal();
  /** @type {AccessState} */
  state = { phase: "closed", sentence: "" };

  #world;
  #token = "";
  #callOff = () => {};

  /** @param {World} world */
  constructor(world) {
    this.#world = world;
  }

  /** Takes up the token that this tab had before a reload. */
  start() {
    const kept = this.#world.storage.getItem(NAME);
    if (kept) this.use(kept);
  }

  /**
   * Uses this token from now on, once the platform knows it.
   *
   * @param {string} text as pasted: blanks around it, or "Bearer" before it, are no part of it
   */
  use(text) {
    const token = text.trim().replace(/^Bearer\s+/i, "");
    this.#callOff();
    if (!/^[\x21-\x7e]{1,4096}$/.test(token)) return this.#close("That is not a token.");
    this.#token = token;
    return this.#check(token, 1);
  }

  /** Nothing of the token is left here; on the platform it lives on. */
  forget() {
    this.#close("");
  }

  /** Which of these scopes are missing. @param {string[]} scopes @returns {string[]} */
  missing(...scopes) {
    const held = this.state.phase === "open" ? this.state.identity.scopes : [];
    return scopes.filter((scope) => !held.includes(scope));
  }

  /** @param {string} scope */
  has(scope) {
    return this.missing(scope).length === 0;
  }

  /** The token, for a connection or a request of its own. */
  get token() {
    return this.#token;
  }

  /**
   * Calls an operation with the token. One that is not good any more closes the operator's pages.
   *
   * @param {string} name
   * @param {object} [args]
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  async call(name, args, options) {
    const token = this.#token;
    try {
      return await this.#world.ask(token, name, args, options);
    } catch (error) {
      this.noticed(error, token);
      throw error;
    }
  }

  /**
   * Draws the consequences of an error that a call with the token came back with.
   *
   * @param {unknown} error
   * @param {string} token the one that was used
   */
  noticed(error, token = this.#token) {
    const isOver = error instanceof OperationError && error.code === "unauthenticated";
    if (isOver && token === this.#token) this.#close(OVER);
  }

  /**
   * @param {string} token
   * @param {number} attempt
   */
  async #check(token, attempt) {
    this.#set({ phase: "asking", sentence: attempt > 1 ? "The platform does not answer. Asking again…" : "" });
    try {
      const identity = await this.#world.ask(token, WHO);
      if (token === this.#token) this.#opened(identity, token);
    } catch (error) {
      if (token === this.#token) this.#failed(error, token, attempt);
    }
  }

  /**
   * @param {CallerIdentity} identity
   * @param {string} token
   */
  #opened(identity, token) {
    if (identity.kind === "session") {
      return this.#close(A_PERSONS);
    }
    this.#world.storage.setItem(NAME, token);
    return this.#set({ phase: "open", identity });
  }

  /**
   * @param {unknown} error
   * @param {string} token
   * @param {number} attempt
   */
  #failed(error, token, attempt) {
    if (!(error instanceof OperationError) || !error.retryable) {
      const isUnknown = error instanceof OperationError && error.code === "unauthenticated";
      return this.#close(isUnknown ? "The platform does not know this token." : sentenceOf(error));
    }
    const wait = Math.max(delayBefore(attempt, this.#world.random), error.retryAfter * 1000);
    this.#callOff = this.#world.clock.after(wait, () => this.#check(token, attempt + 1));
    return this.#set({ phase: "asking", sentence: error.message });
  }

  /** @param {string} sentence */
  #close(sentence) {
    this.#callOff();
    this.#token = "";
    this.#world.storage.removeItem(NAME);
    this.#set({ phase: "closed", sentence });
  }

  /** @param {AccessState} state */
  #set(state) {
    this.state = state;
    this.changed.emit(state);
  }
}
