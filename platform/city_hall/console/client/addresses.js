/**
 * Where the platform is, and how one gets in: the address of its sockets and of its operations. The token goes
 * into a subprotocol and never into an address, which logs and histories keep.
 */

/** @import { Socket } from "./connection.js" */

/** @typedef {"json" | "msgpack"} Encoding */

/** @type {Record<Encoding, string[]>} what is offered, the first choice first */
const SUBPROTOCOLS = { json: ["smart-city.v1"], msgpack: ["smart-city.v1.msgpack", "smart-city.v1"] };
const SOCKET_SCHEMES = new Map([["http:", "ws:"], ["https:", "wss:"], ["ws:", "ws:"], ["wss:", "wss:"]]);

export class Address {
  /** @type {URL} of the socket */
  socketUrl;
  /** @type {URL} of everything else */
  httpUrl;
  token;

  /**
   * @param {string | URL} url "https://city.example", or its socket's "wss://city.example/ws"
   * @param {string} token "" in a page of the platform's own, whose cookie tells
   * @param {Encoding} encoding
   */
  constructor(url, token, encoding = "json") {
    this.socketUrl = new URL(url);
    const scheme = SOCKET_SCHEMES.get(this.socketUrl.protocol);
    if (!scheme) throw new TypeError(`${url} is no address of a platform: http, https, ws or wss is asked for`);
    this.socketUrl.protocol = scheme;
    if (!this.socketUrl.pathname.endsWith("/ws")) this.socketUrl.pathname = "/ws";
    this.socketUrl.search = this.socketUrl.hash = "";
    this.httpUrl = new URL("/", this.socketUrl);
    this.httpUrl.protocol = scheme === "wss:" ? "https:" : "http:";
    this.token = token;
    this.encoding = encoding;
  }

  /**
   * @param {string} resume the id of an earlier connection, or ""
   * @param {string} token
   * @returns {Socket}
   */
  openSocket(resume, token = this.token) {
    const url = new URL(this.socketUrl);
    if (resume) url.searchParams.set("resume", resume);
    const socket = new WebSocket(url, this.#subprotocols(token));
    socket.binaryType = "arraybuffer";
    return socket;
  }

  /** Who has neither a token nor a wish offers nothing. @param {string} token */
  #subprotocols(token) {
    if (token) return [...SUBPROTOCOLS[this.encoding], `token.${token}`];
    return this.encoding === "json" ? [] : SUBPROTOCOLS[this.encoding];
  }
}

/** The platform that this page is a page of; elsewhere one has to say where it is. */
export function ownAddress() {
  const { location } = globalThis;
  if (!location) throw new TypeError("outside of a page a City needs the platform's address");
  return location.href;
}
