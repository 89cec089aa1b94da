/**
 * What a tab takes with it over a reload: its conversations and how far it had read, so that a reload is one
 * more reconnection. Nothing secret is among it, and it goes when one signs out or the tab is closed.
 */

/** @import { Past } from "../client/index.js" */
/** @import { Item } from "./threads.js" */

/**
 * @typedef {{
 *   userId: string, past: Past, conversations: [string, string][], threads: [string, Item[]][],
 * }} Kept
 */

const NAME = "smart-city.console";
const VERSION = 2;

export class Keepsake {
  #storage;

  /** @param {Pick<Storage, "getItem" | "setItem" | "removeItem">} storage */
  constructor(storage) {
    this.#storage = storage;
  }

  /** @returns {Kept | null} null when there is nothing, or nothing this release understands */
  read() {
    try {
      const { version, kept } = JSON.parse(this.#storage.getItem(NAME) ?? "null") ?? {};
      return version === VERSION ? kept : null;
    } catch {
      return null;
    }
  }

  /** Keeps nothing rather than half when it is more than the browser stores. @param {Kept} kept */
  write(kept) {
    try {
      this.#storage.setItem(NAME, JSON.stringify({ version: VERSION, kept }));
    } catch {
      this.clear();
    }
  }

  clear() {
    this.#storage.removeItem(NAME);
  }
}
