/**
 * The city as a program sees it: asking, listening, sending, calling. Coming back, recovering and sending again
 * are the engine's, which lives in this page or in a worker that many tabs share.
 */

import { Address, ownAddress } from "./addresses.js";
import { Asking } from "./asking.js";
import { realClock } from "./clock.js";
import { Engine } from "./engine.js";
import { newKey } from "./frames.js";
import { followHints } from "./hints.js";
import { Listening } from "./listening.js";
import { placesOf } from "./messages.js";
import { call } from "./operations.js";
import { through, workerAt } from "./sharing.js";
import { Tab } from "./tab.js";

/** @import { Encoding } from "./addresses.js" */
/** @import { Answer } from "./answers.js" */
/** @import { Past, World } from "./engine.js" */
/** @import { Acknowledged } from "./letters.js" */
/** @import { Channels, Since } from "./messages.js" */
/** @import { CallOptions } from "./operations.js" */
/** @import { Letter } from "./outgoing.js" */
/** @import { Payload, Places } from "./protocol.js" */
/** @import { Kinds, Through } from "./tab.js" */

/**
 * @typedef {{
 *   token?: string, encoding?: Encoding, past?: Partial<Past>, answers?: Answer[], shared?: boolean,
 *   worker?: string | URL, world?: Partial<World>, through?: Through,
 * }} CityOptions  `token`: "" in a page of the platform's own, whose cookie tells; `encoding`: "msgpack" is
 *   smaller where payloads hold bytes, "json" the default; `past`, `answers`: what an earlier life of the page has
 *   kept; `shared`: one connection for all tabs; `worker`: where its script lies, if not beside this one; `world`,
 *   `through`: another clock, chance and socket, another engine
 * @typedef {{
 *   intent?: string, key?: string, signal?: AbortSignal, seconds?: number, firstSentAt?: number,
 * }} SendOptions  `key`: the same one makes a repetition safe; `seconds`: for how long a refusal that may pass is
 *   met by sending again (30), 0 for not at all; `firstSentAt`: when an earlier life of the page sent it
 * @typedef {{
 *   conversationId?: string, intent?: string, key?: string, signal?: AbortSignal, seconds?: number,
 * }} AskOptions  `seconds`: for how long nothing may be heard of the answer (60)
 */

const PATIENCE_S = 60;
const PERSISTENCE_S = 30;

export class City {
  #address;
  #clock;
  #tab;
  #endHints;

  /**
   * Connects, and comes back whenever the connection is lost, until it is closed.
   *
   * @param {string | URL} [url] the platform's; left out in a page of its own
   * @param {CityOptions} [options]
   */
  constructor(url = ownAddress(), { token = "", encoding, past = {}, answers = [], ...options } = {}) {
    this.#address = new Address(url, token, encoding);
    const around = { ...worldOf(this.#address), ...options.world };
    this.#clock = around.clock;
    this.#tab = new Tab(options.through ?? wayFor(this.#address, around, options), { token, past, answers });
    this.#endHints = followHints(() => this.hurry());
  }

  /**
   * A city whose connection is shared by all tabs of this origin that have it with the same token. Where there
   * is no SharedWorker it has a connection of its own; nothing else is different.
   *
   * @param {string | URL} [url]
   * @param {CityOptions} [options]
   */
  static shared(url, options = {}) {
    return new City(url, { ...options, shared: true });
  }

  /** How the connection is doing; the event `state` tells of every change. */
  get state() {
    return this.#tab.state;
  }

  /** Who one is; "" while not connected. */
  get userId() {
    return this.state.phase === "connected" ? this.state.welcome.user_id : "";
  }

  /** The id of the living connection; "" while there is none. */
  get connectionId() {
    return this.state.phase === "connected" ? this.state.welcome.connection_id : "";
  }

  /**
   * Listens for something that happens. An `error` that nobody listens for is never thrown.
   *
   * @template {keyof Kinds} Name
   * @param {Name} name
   * @param {(value: Kinds[Name]) => void} listener
   * @returns {() => void} ends it
   */
  on(name, listener) {
    if (name === "frame") this.#tab.watch();
    return this.#tab.events.on(name, listener);
  }

  /**
   * Asks the agents of a channel: `await` it for the whole answer, `for await` it for its parts.
   *
   * @param {string} channel
   * @param {string | Payload} question
   * @param {AskOptions} [options]
   */
  ask(channel, question, { conversationId = "", seconds = PATIENCE_S, ...options } = {}) {
    const asking = new Asking(this.#clock, seconds * 1000);
    const asked = (/** @type {string} */ messageId) => {
      this.#tab.expect(messageId, asking);
      asking.known(() => this.stop(messageId));
    };
    this.send(channel, payloadOf(question, conversationId), options).then(
      ({ messageId }) => asked(messageId), (error) => asking.fail(error));
    asking.endWith(options.signal);
    return asking;
  }

  /**
   * Ends a question of this user, whichever page asked it. Its answer fails with the code `stopped`, unless it was
   * quicker.
   *
   * @param {string} messageId of the question
   */
  stop(messageId) {
    this.#tab.ask({ ask: "stop", messageId });
  }

  /**
   * Sends a message to the agents of a channel. Offline it waits, bounded, for the connection.
   *
   * @param {string} channel
   * @param {string | Payload} message
   * @param {SendOptions} [options]
   * @returns {Promise<Acknowledged>} rejected with a `CityError`, or the signal's reason
   */
  send(channel, message, options = {}) {
    return this.#tab.post(letterOf({}, channel, payloadOf(message), options), options.signal);
  }

  /**
   * Publishes to all who listen to a channel, which needs the right; otherwise as `send`.
   *
   * @param {string} channel
   * @param {string | Payload} message
   * @param {SendOptions} [options]
   * @returns {Promise<Acknowledged>}
   */
  publish(channel, message, options = {}) {
    const letter = letterOf({ type: "publish" }, channel, payloadOf(message), options);
    return this.#tab.post(letter, options.signal);
  }

  /**
   * Listens to channels, from positions or from now: `for await` it. A message's `gap` tells what was lost right
   * before it.
   *
   * @param {Channels} channels
   * @param {{ since?: Since, signal?: AbortSignal }} [options] `since` goes with one channel
   */
  listen(channels, { since = null, signal } = {}) {
    const places = placesOf(channels, since);
    const names = Object.keys(places);
    const way = {
      join: (/** @type {Places} */ missed) => this.#tab.ask({ ask: "listen", channels: missed }),
      leave: (/** @type {string[]} */ left) => this.#tab.ask({ ask: "leave", channels: left }),
    };
    const reader = new Listening(places, way, () => this.#tab.leave(names));
    this.#tab.open(places, reader);
    reader.endWith(signal);
    return reader;
  }

  /**
   * Hears channels by the events `message`, `reset`, `subscribed` and `unsubscribed` alone.
   *
   * @param {Channels} channels
   * @param {{ since?: Since }} [options]
   */
  subscribe(channels, { since = null } = {}) {
    this.#tab.open(placesOf(channels, since), null);
  }

  /** Hears channels no more; a reader of them ends. @param {string | Iterable<string>} channels */
  unsubscribe(channels) {
    this.#tab.leave(Object.keys(placesOf(channels)));
  }

  /**
   * Calls any operation over HTTP: `await city.call("post_office.list_channels")`.
   *
   * @param {string} operation
   * @param {object} [args]
   * @param {CallOptions} [options]
   * @returns {Promise<any>} the fields of its result
   */
  call(operation, args = {}, options = {}) {
    return call(this.#address.httpUrl, this.#address.token, operation, args, options);
  }

  /**
   * Goes on with a new token of the same user, here and whenever it comes back.
   *
   * @param {string} token
   * @returns {Promise<void>} rejected when the platform refuses it, and then nothing has changed
   */
  async refresh(token) {
    await this.#tab.refresh(token);
    this.#address.token = token;
  }

  /** Takes a new socket at once, since the session behind the cookie was renewed. */
  renew() {
    this.#tab.ask({ ask: "renew" });
  }

  /** Does not wait any longer, also where the platform said not to come back. */
  reconnect() {
    if (this.state.phase === "ended") this.#tab.hello();
    else this.#tab.ask({ ask: "reconnect" });
  }

  /** The network is back, or somebody looks: no use in waiting, unless the platform asked for it. */
  hurry() {
    this.#tab.ask({ ask: "hurry" });
  }

  /** What a later life of this page needs, as `past`, to miss nothing. Nothing secret is among it. */
  keep() {
    return this.#tab.keep();
  }

  /** Ends the connection for all who share it, as at a sign-out. */
  end() {
    this.#tab.ask({ ask: "end" });
    this.#leave("The connection was ended here.");
  }

  /** Leaves: the connection ends with the last one that shares it. */
  close() {
    this.#tab.ask({ ask: "bye" });
    this.#leave("This client was closed.");
  }

  /** @param {string} sentence */
  #leave(sentence) {
    this.#endHints();
    this.#tab.close(sentence);
  }
}

/**
 * @param {Address} address
 * @param {World} world
 * @param {CityOptions} options
 * @returns {Through}
 */
function wayFor(address, world, { shared = false, worker }) {
  if (shared) return through(address, world, () => workerAt(worker));
  return (tell) => new Engine(world).attach(tell);
}

/**
 * @param {Address} address
 * @returns {World}
 */
function worldOf(address) {
  return { openSocket: address.openSocket.bind(address), clock: realClock, random: Math.random };
}

/**
 * @param {{ type?: "publish" }} kind
 * @param {string} channel
 * @param {Payload} payload
 * @param {SendOptions} options
 * @returns {Letter}
 */
function letterOf(kind, channel, payload, options) {
  const { intent = "chat", key = newKey(), seconds = PERSISTENCE_S, firstSentAt = 0 } = options;
  const frame = { ...kind, channel, intent, payload, id: newKey(), key };
  return { frame, firstSentAt, patience: seconds * 1000 };
}

/**
 * @param {string | Payload} said
 * @param {string} conversationId
 * @returns {Payload}
 */
function payloadOf(said, conversationId = "") {
  const payload = typeof said === "string" ? { message: said } : said;
  return conversationId ? { ...payload, conversation_id: conversationId } : payload;
}
