/** The token of a connection, and new ones on their way to the platform: a refused one leaves the old one. */

import { refreshFrame } from "./frames.js";
import { NOTHING_KNOWN } from "./outgoing.js";

/** @import { Refusal } from "./errors.js" */
/** @import { Listener } from "./feed.js" */
/** @import { RefreshFrame } from "./protocol.js" */

export class Refreshing {
  /** With which the next socket is opened. */
  token = "";

  #send;
  /** By the ids of the frames. @type {Map<string, { asker: Listener, before: string }>} */
  #underWay = new Map();

  /** @param {(frame: RefreshFrame) => boolean} send */
  constructor(send) {
    this.#send = send;
  }

  /**
   * @param {Listener} asker is told what came of it
   * @param {{ token: string, id: string }} wanted
   */
  start(asker, { token, id }) {
    this.#underWay.set(id, { asker, before: this.token });
    this.token = token;
    if (!this.#send(refreshFrame(id, token))) this.settled(id, null);
  }

  /**
   * @param {string | undefined} id of a frame that was answered
   * @param {Refusal | null} refusal
   * @returns {boolean} whether it was one of ours
   */
  settled(id = "", refusal) {
    const { asker, before } = this.#underWay.get(id) ?? {};
    if (!asker) return false;
    this.#underWay.delete(id);
    if (refusal) this.token = before ?? "";
    const told = refusal && { code: refusal.code, message: refusal.message };
    asker.tell({ ...NOTHING_KNOWN, id, progress: told ? "failed" : "safe", refusal: told });
    return true;
  }

  /** The connection is gone: the next one comes with the new token. */
  lost() {
    for (const id of [...this.#underWay.keys()]) this.settled(id, null);
  }
}
