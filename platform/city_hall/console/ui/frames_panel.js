/**
 * The frames as they pass: filtered, paused, opened, copied. Keeps no more rows than the log keeps frames.
 */

import { MOST_ENTRIES, matches } from "../model/frame_log.js";
import { counted } from "../model/words.js";
import { h } from "./elements.js";
import { frameRow } from "./frame_row.js";
import { icon } from "./icons.js";

/** @import { Entry, FrameLog } from "../model/frame_log.js" */

const QUIET_TYPES = new Set(["heartbeat", "pong"]);

export class FramesPanel {
  #list = h("ol", { class: "frame-list", tabindex: "0", "aria-label": "Frames, newest first" });
  #count = h("span", { class: "count" });
  #filter = h("input", {
    type: "search", placeholder: "Filter", "aria-label": "Filter frames", oninput: () => this.#redraw(),
  });
  #heartbeats = h("input", { type: "checkbox", onchange: () => this.#redraw() });
  #pause = h("button", { class: "small", onclick: () => this.#togglePause() }, "Pause");
  element;

  #log;
  /** @type {Entry[]} frames that wait to be drawn */
  #arrived = [];
  #isPaused = false;
  #isOpen = false;
  #isPlanned = false;

  /**
   * @param {FrameLog} log
   * @param {() => void} close
   */
  constructor(log, close) {
    this.#log = log;
    this.element = h("aside", { class: "frames", "aria-label": "Raw frames", hidden: true },
      h("header", {}, h("h2", {}, "Frames"), this.#count,
        h("button", { class: "icon-button", "aria-label": "Close frames", onclick: close }, icon("close"))),
      h("div", { class: "tools" }, this.#filter, h("label", {}, this.#heartbeats, "Heartbeats"), this.#pause,
        h("button", { class: "small quiet", onclick: () => this.#clear() }, "Clear")),
      this.#list);
    log.added.listen((entry) => {
      if (!this.#isOpen) return;
      this.#arrived.push(entry);
      if (this.#arrived.length > MOST_ENTRIES) this.#arrived.shift();
      this.#plan();
    });
  }

  /** @param {boolean} isOpen */
  show(isOpen) {
    this.#isOpen = isOpen;
    this.element.hidden = !isOpen;
    if (isOpen) this.#redraw();
    else this.#list.replaceChildren();
  }

  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    requestAnimationFrame(() => {
      this.#isPlanned = false;
      this.#drawArrived();
    });
  }

  #drawArrived() {
    if (!this.#isPaused) {
      this.#list.prepend(...this.#arrived.filter((entry) => this.#isWanted(entry)).reverse().map(frameRow));
      this.#arrived = [];
      while (this.#list.children.length > MOST_ENTRIES) this.#list.lastElementChild?.remove();
    }
    this.#tell();
  }

  #redraw() {
    this.#arrived = [];
    const wanted = this.#log.entries.filter((entry) => this.#isWanted(entry));
    this.#list.replaceChildren(...wanted.reverse().map(frameRow));
    this.#tell();
  }

  /** @param {Entry} entry */
  #isWanted(entry) {
    return (this.#heartbeats.checked || !QUIET_TYPES.has(entry.type)) && matches(entry, this.#filter.value);
  }

  #togglePause() {
    this.#isPaused = !this.#isPaused;
    this.#pause.classList.toggle("is-on", this.#isPaused);
    this.#pause.textContent = this.#isPaused ? "Resume" : "Pause";
    this.#drawArrived();
  }

  #clear() {
    this.#log.clear();
    this.#redraw();
  }

  #tell() {
    const shown = this.#list.children.length;
    const waiting = this.#isPaused && this.#arrived.length > 0 ? `, ${this.#arrived.length} new` : "";
    this.#count.textContent = `${counted(shown, "frame")}${waiting}`;
  }
}
