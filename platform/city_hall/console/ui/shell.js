/**
 * The frame around every page: the way to talk and the way to operate at the side, and the page that the address
 * names. Pages come and go whole; each is ended when another one takes its place.
 */

import { realClock } from "../client/index.js";
import { addressOf, routeOf } from "../model/routes.js";
import { DIRECTORY, entryOf } from "../pages/directory.js";
import { gate } from "../pages/gate.js";
import { Announcer } from "./announcer.js";
import { h } from "./elements.js";
import { icon } from "./icons.js";
import { Shortcuts } from "./shortcuts.js";
import { Toasts } from "./toasts.js";

/** @import { Access } from "../model/access.js" */
/** @import { Entry } from "../pages/directory.js" */
/** @import { ChatPage } from "./chat_page.js" */

export class Shell {
  announcer = new Announcer();
  #toasts = new Toasts();
  #page = h("div", { class: "outlet" });
  #talk = h("section", { class: "way", "data-way": "talk" });
  #links;
  #holder = h("p", { class: "holder", hidden: true });
  #access;
  #shown = "";
  #hasShown = false;
  #left = new AbortController();
  element;

  /** @param {Access} access */
  constructor(access) {
    this.#access = access;
    this.#links = new Map(DIRECTORY.map((entry) => [entry.page, linkTo(entry)]));
    this.element = h("div", { class: "city" },
      h("a", { class: "skip", href: "#page", onclick: (/** @type {Event} */ event) => this.#skip(event) },
        "Skip to the page"),
      h("header", { class: "side" },
        h("p", { class: "brand" }, "Smart City"),
        h("nav", { class: "ways-switch", "aria-label": "Sections" },
          h("a", { href: "#/chat", "data-way": "talk" }, "Talk"),
          h("a", { href: "#/channels", "data-way": "operate" }, "Operate")),
        h("div", { class: "ways" }, this.#talk, this.#operate())),
      this.#page, this.announcer.element, this.#toasts.element);
    access.changed.listen(() => this.#accessChanged());
    new Shortcuts(DIRECTORY).listen();
    this.showTalk(null);
    this.#accessChanged();
  }

  #operate() {
    return h("section", { class: "way", "data-way": "operate" },
      h("h2", {}, "Operate"),
      h("nav", { "aria-label": "Operate" },
        h("ul", { class: "places" }, ...[...this.#links.values()].map((link) => h("li", {}, link)))),
      this.#holder);
  }

  /** Whether an operator's page is named. */
  get isOperating() {
    return entryOf(routeOf(location.hash).page) !== null;
  }

  /**
   * The way to talk: a conversation's channels, or the door.
   *
   * @param {ChatPage | null} chat
   */
  showTalk(chat) {
    this.#talk.replaceChildren(h("h2", {}, "Talk"), ...(chat ? [chat.nav, chat.footer]
      : [h("p", { class: "door" }, h("a", { href: "#/chat" }, "Sign in to talk"))]));
  }

  /** Shows the conversation. @param {ChatPage} chat */
  openChat(chat) {
    this.#open("talk", "");
    if (chat.element.parentElement !== this.#page) this.#page.replaceChildren(chat.element);
    chat.show();
  }

  /** Shows the page that the address names; whether it is one of the operator's. */
  openPage() {
    const route = routeOf(location.hash);
    const entry = entryOf(route.page);
    if (!entry) return false;
    const isNavigation = this.#hasShown;
    this.#open("operate", entry.page);
    const isClosed = this.#access.missing(entry.scope).length > 0 && entry.scope !== "";
    const page = isClosed || this.#access.state.phase !== "open" ? gate(this.#access, entry)
      : entry.draw(this.#placeAt(route));
    this.#page.replaceChildren(page);
    document.title = `${page.querySelector("h1")?.textContent ?? entry.title} · Smart City`;
    const wanted = page.querySelector(/** @type {"input"} */ ("[data-first]"));
    if (wanted) wanted.focus();
    else if (isNavigation) page.focus({ preventScroll: true });
    return true;
  }

  /** @param {import("../model/routes.js").Route} route */
  #placeAt(route) {
    return {
      access: this.#access, route, signal: this.#left.signal, clock: realClock,
      say: (/** @type {string} */ sentence) => this.announcer.say(sentence),
      toast: (/** @type {string} */ sentence, /** @type {"good" | "bad"} */ tone = "good") =>
        this.#toasts.show(sentence, tone),
    };
  }

  /**
   * @param {"talk" | "operate"} way
   * @param {string} page
   */
  #open(way, page) {
    this.#left.abort();
    this.#left = new AbortController();
    this.element.dataset.way = way;
    this.#links.get(this.#shown)?.removeAttribute("aria-current");
    this.#links.get(page)?.setAttribute("aria-current", "page");
    this.#links.get(page)?.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.#shown = page;
    this.#hasShown = true;
  }

  #accessChanged() {
    const { state } = this.#access;
    this.#holder.hidden = state.phase !== "open";
    if (state.phase === "open") {
      this.#holder.replaceChildren(icon("key"), h("span", { class: "who" }, state.identity.id),
        h("button", { class: "small quiet", onclick: () => this.#access.forget() }, "Forget token"));
    }
    if (this.#shown) this.openPage();
  }

  /** @param {Event} event */
  #skip(event) {
    event.preventDefault();
    const target = this.#page.querySelector(/** @type {"main"} */ ("textarea, #page"));
    target?.focus();
  }
}

/** @param {Entry} entry */
function linkTo({ page, title, icon: drawing }) {
  return h("a", { href: addressOf(page) }, icon(drawing), h("span", { class: "title" }, title));
}
