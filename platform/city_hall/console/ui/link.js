/**
 * Says how the connection is doing, lets one hurry it, and tells its news. It watches; it decides nothing.
 */

import { describe } from "../model/link_words.js";
import { clockTime, h } from "./elements.js";

/** @import { Talk } from "../model/talk.js" */
/** @import { News } from "../model/telling.js" */
/** @import { Announcer } from "./announcer.js" */

const NEWS_MS = 7000;
const MOST_NEWS = 3;
const TICK_MS = 250;

export class Link {
  #word = h("span", { class: "word" });
  #lines = h("div", { class: "lines" });
  #hurry = h("button", { class: "small", onclick: () => this.#hurryUp() }, "Reconnect now");
  #stay = h("button", { class: "small", onclick: () => this.#renew() }, "Stay signed in");
  /** A light and a word, always there. */
  indicator = h("div", { class: "link" }, h("span", { class: "light" }), this.#word);
  /** What needs a whole line: there only when there is something to say. */
  strip = h("div", { class: "strip", hidden: true }, this.#lines, this.#hurry, this.#stay);

  #talk;
  #announcer;
  #staySignedIn;
  /** @type {(News & { until: number })[]} */
  #news = [];
  /** When the session ends, once that is near. @type {number | null} */
  #endsAt = null;
  #announced = "";
  #timer = 0;

  /**
   * @param {Talk} talk
   * @param {Announcer} announcer
   * @param {() => Promise<void>} staySignedIn renews the session
   */
  constructor(talk, announcer, staySignedIn) {
    this.#talk = talk;
    this.#announcer = announcer;
    this.#staySignedIn = staySignedIn;
    talk.city.on("state", ({ phase }) => {
      if (phase === "waiting") this.#news = this.#news.filter(({ tone }) => tone === "bad");
      this.#show();
    });
    talk.news.listen((news) => this.#tell(news));
    talk.expiring.listen((at) => {
      this.#endsAt = Date.parse(at);
      this.#show();
    });
    this.#show();
  }

  /** @param {News} news */
  #tell(news) {
    this.#news = [...this.#news, { ...news, until: Date.now() + NEWS_MS }].slice(-MOST_NEWS);
    this.#announcer.say(news.text);
    this.#show();
  }

  #show() {
    const now = Date.now();
    const { phase } = this.#talk.city.state;
    const { light, word, sentence, canHurry } = describe(this.#talk.city.state, now);
    const isExpiring = phase === "connected" && this.#endsAt !== null;
    this.#news = this.#news.filter(({ until }) => until > now);
    this.indicator.dataset.light = light;
    this.#word.textContent = word;
    this.#hurry.hidden = !canHurry;
    this.#stay.hidden = !isExpiring;
    this.#lines.replaceChildren(...this.#sentences(sentence, isExpiring));
    this.strip.hidden = this.#lines.children.length === 0;
    this.#announce(word, phase);
    this.#tick(phase === "waiting" || this.#news.length > 0);
  }

  /**
   * What is, before what has happened.
   *
   * @param {string} sentence
   * @param {boolean} isExpiring
   */
  #sentences(sentence, isExpiring) {
    const lines = this.#news.map(({ tone, text }) => h("p", { "data-tone": tone }, text));
    if (isExpiring) lines.unshift(h("p", {}, "Your session ends at ", clockTime(this.#endsAt ?? 0), "."));
    if (sentence) lines.unshift(h("p", { "data-tone": "link" }, sentence));
    return lines;
  }

  /**
   * Each phase is announced once; the seconds that pass are not.
   *
   * @param {string} word
   * @param {string} phase
   */
  #announce(word, phase) {
    if (word === this.#announced || phase === "off") return;
    this.#announced = word;
    this.#announcer.say(word);
  }

  /** @param {boolean} isNeeded */
  #tick(isNeeded) {
    clearTimeout(this.#timer);
    if (isNeeded) this.#timer = setTimeout(() => this.#show(), TICK_MS);
  }

  #hurryUp() {
    this.#talk.city.reconnect();
  }

  async #renew() {
    this.#stay.disabled = true;
    try {
      await this.#staySignedIn();
      this.#endsAt = null;
      this.#tell({ tone: "good", text: "You stay signed in." });
    } catch (error) {
      this.#tell({ tone: "bad", text: error instanceof Error ? error.message : String(error) });
    } finally {
      this.#stay.disabled = false;
    }
  }
}
