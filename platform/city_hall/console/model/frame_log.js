/** The latest frames for people to look into: bounded in number and in size, and without anything secret. */

import { Signal } from "../client/index.js";

/** @import { Passing } from "../client/index.js" */

/**
 * @typedef {{
 *   number: number, at: number, direction: "in" | "out" | "note", type: string, bytes: number, text: string,
 * }} Entry
 */

export const MOST_ENTRIES = 500;
/** Characters kept of one frame, and of all together. */
export const MOST_TEXT = 64 * 1024;
export const MOST_TEXT_TOGETHER = 4 * 1024 * 1024;

const SECRET_NAME = /token|authorization|password|secret/i;
const SECRET_VALUE = /(?<![A-Za-z0-9])(?:ses|svc|tkt|op)_[A-Za-z0-9._~-]{8,}/g;
const HIDDEN = "•••";

export class FrameLog {
  /** @type {Signal<Entry>} */
  added = new Signal();
  /** @type {Entry[]} */
  entries = [];

  #number = 0;
  #characters = 0;

  /**
   * @param {Passing} passing
   * @param {number} at
   */
  add({ direction, text }, at) {
    const shown = direction === "note" ? text : withoutSecrets(text);
    const entry = {
      number: (this.#number += 1), at, direction, type: typeOf(text, direction), bytes: new TextEncoder().encode(text).length,
      text: shown.length > MOST_TEXT ? `${shown.slice(0, MOST_TEXT)}…` : shown,
    };
    this.entries.push(entry);
    this.#characters += entry.text.length;
    this.#trim();
    this.added.emit(entry);
  }

  clear() {
    this.entries = [];
    this.#characters = 0;
  }

  #trim() {
    while (this.entries.length > MOST_ENTRIES || this.#characters > MOST_TEXT_TOGETHER) {
      this.#characters -= this.entries.shift()?.text.length ?? 0;
    }
  }
}

/**
 * @param {Entry} entry
 * @param {string} filter words that must all occur, anywhere in the frame; in any case
 */
export function matches(entry, filter) {
  const text = `${entry.direction} ${entry.type} ${entry.text}`.toLowerCase();
  return filter.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** The frame set over several lines, or as it is when it is no (whole) JSON. @param {string} text */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** @param {string} text */
function withoutSecrets(text) {
  const isSuspect = SECRET_NAME.test(text) || text.search(SECRET_VALUE) >= 0;
  if (!isSuspect) return text;
  try {
    return JSON.stringify(JSON.parse(text, hideSecret)).replace(SECRET_VALUE, HIDDEN);
  } catch {
    return text.replace(SECRET_VALUE, HIDDEN);
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function hideSecret(name, value) {
  return SECRET_NAME.test(name) && typeof value === "string" ? HIDDEN : value;
}

/**
 * What a row is called: the type, with the event or the part of an answer.
 *
 * @param {string} text
 * @param {string} direction
 */
function typeOf(text, direction) {
  if (direction === "note") return "connection";
  try {
    const { type = "message", event, stream, status } = JSON.parse(text);
    return [type, event ?? stream ?? status].filter(Boolean).join(" · ");
  } catch {
    return "not JSON";
  }
}
