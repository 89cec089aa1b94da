/** Says how the connection is doing, lets one hurry it, and tells its news. It watches; it decides nothing. */

import { describe } from "../client/link_words.js";
import { clockTime, h } from "./elements.js";

/** @import { City } from "../client/city.js" */
/** @import { Announcer } from "./announcer.js" */

const NEWS_MS = 6000;
const TICK_MS = 250;

export class Link {
  #word = h("span", { class: "word" });
  #sentence = h("p");
  #hurry = h("button", { class: "small", onclick: () => this.#city.connection.reconnectNow() }, "Reconnect now");
  #stay = h("button", { class: "small", onclick: () => this.#renew() }, "Stay signed in");
  /** A light and a word, always there. */
  indicator = h("div", { class: "link" }, h("span", { class: "light" }), this.#word);
  /** What needs a whole line: there only when there is something to say. */
  strip = h("div", { class: "strip", hidden: true }, this.#sentence, this.#hurry, this.#stay);

  #city;
  #announcer;
  #staySignedIn;
  /** @type {{ tone: string, text: string, until: number } | null} */
  #news = null;
  /** @type {number | null} when the session ends, once that is near */
  #endsAt = null;
  #announced = "";
  #timer = 0;

  /**
   * @param {City} city
   * @param {Announcer} announcer
   * @param {() => Promise<void>} staySignedIn renews the session
   */
  constructor(city, announcer, staySignedIn) {
    this.#city = city;
    this.#announcer = announcer;
    this.#staySignedIn = staySignedIn;
    city.connection.changed.listen(() => this.#show());
    city.news.listen(({ tone, text }) => this.#tell(tone, text));
    city.expiring.listen((at) => {
      this.#endsAt = Date.parse(at);
      this.#show();
    });
    this.#show();
  }

  /**
   * @param {"good" | "bad"} tone
   * @param {string} text
   */
  #tell(tone, text) {
    this.#news = { tone, text, until: Date.now() + NEWS_MS };
    this.#announcer.say(text);
    this.#show();
  }

  #show() {
    const state = this.#city.connection.state;
    const { light, word, sentence, canHurry } = describe(state, Date.now());
    if (this.#news && this.#news.until <= Date.now()) this.#news = null;
    const isExpiring = !sentence && this.#endsAt !== null;
    const tone = sentence ? "bad" : this.#news?.tone ?? "plain";
    this.indicator.dataset.light = light;
    this.#word.textContent = word;
    this.strip.dataset.tone = tone;
    this.strip.hidden = !sentence && !this.#news && !isExpiring;
    this.#hurry.hidden = !canHurry;
    this.#stay.hidden = !isExpiring || this.#news !== null;
    this.#say(sentence || this.#news?.text || (isExpiring ? "Your session ends at " : ""));
    if (isExpiring && !this.#news) this.#sentence.append(clockTime(this.#endsAt ?? 0), ".");
    this.#announce(word, state.phase);
    this.#tick(state.phase === "waiting" || this.#news !== null);
  }

  /** @param {string} text */
  #say(text) {
    if (this.#sentence.textContent !== text) this.#sentence.textContent = text;
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

  async #renew() {
    this.#stay.disabled = true;
    try {
      await this.#staySignedIn();
      this.#endsAt = null;
      this.#tell("good", "You stay signed in.");
    } catch (error) {
      this.#tell("bad", error instanceof Error ? error.message : String(error));
    } finally {
      this.#stay.disabled = false;
    }
  }
}
