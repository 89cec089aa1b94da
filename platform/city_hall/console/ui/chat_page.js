/** The place to talk: a conversation at a time, what one writes, and the frames beside it, around one city. */

import { nameOf, wordsFor } from "../model/channel_words.js";
import { FOR_YOU } from "../model/places.js";
import { ChannelList } from "./channel_list.js";
import { Composer } from "./composer.js";
import { h } from "./elements.js";
import { FramesPanel } from "./frames_panel.js";
import { icon } from "./icons.js";
import { Link } from "./link.js";
import { channelIn } from "./route.js";
import { ThreadView } from "./thread_view.js";

/** @import { Talk } from "../model/talk.js" */
/** @import { Change } from "../model/threads.js" */
/** @import { Announcer } from "./announcer.js" */

/**
 * @typedef {{
 *   talk: Talk, channels: string[], signal: AbortSignal, announcer: Announcer,
 *   signOut: () => void, staySignedIn: () => Promise<void>,
 * }} Parts  `signal` ends the page's listening on the window
 */

export class ChatPage {
  #announcer;
  #heading = h("h1");
  #about = h("p", { class: "about" });
  #who = h("span", { class: "who" });
  #framesButton;
  #parts;
  #channels;
  #thread;
  #composer;
  #frames;
  #isShown = false;
  /** The conversation. */
  element;
  /** Where one may talk, for the side of the page. */
  nav;
  /** Who one is, and the way out. */
  footer;

  /** @param {Parts} parts */
  constructor(parts) {
    const { talk, channels, announcer, signOut, staySignedIn } = parts;
    this.#parts = parts;
    this.#announcer = announcer;
    this.#composer = new Composer(talk);
    this.#thread = new ThreadView(talk, (text) => this.#composer.say(text));
    this.#channels = new ChannelList(channels, talk);
    this.#frames = new FramesPanel(talk.frames, () => this.#showFrames(false));
    this.#framesButton = h("button", {
      class: "small quiet frames-button", "aria-expanded": "false",
      onclick: () => this.#showFrames(!this.element.hasAttribute("data-frames")),
    }, icon("frames"), "Frames");
    const link = new Link(talk, this.#announcer, staySignedIn);
    this.nav = this.#channels.element;
    this.footer = h("p", { class: "holder" }, this.#who,
      h("button", { class: "small quiet", onclick: signOut }, "Sign out"));
    this.element = h("div", { class: "talk" },
      h("main", { class: "conversation" },
        h("header", { class: "heading" },
          h("div", { class: "words" }, this.#heading, this.#about), link.indicator, this.#framesButton),
        h("div", { class: "strip-place" }, link.strip),
        this.#thread.element, this.#composer.element),
      this.#frames.element);
    this.#listen();
  }

  #listen() {
    const { talk, signal } = this.#parts;
    document.addEventListener("visibilitychange", () => this.#lookedAt(), { signal });
    addEventListener("keydown", ({ key }) => key === "Escape" && this.#showFrames(false), { signal });
    talk.city.on("state", (state) => {
      this.element.dataset.link = state.phase;
      if (state.phase === "connected") this.#who.textContent = state.welcome.user_id;
    });
    talk.threads.changed.listen((change) => {
      this.#announce(change);
      this.#title();
    });
  }

  /** Shows the channel that the address names; the page is in the document. */
  show() {
    this.#isShown = true;
    const channel = channelIn(location.hash, [...this.#parts.channels, FOR_YOU]);
    const { title, about, line } = wordsFor(channel);
    this.element.dataset.line = line;
    this.#heading.textContent = title;
    this.#about.textContent = about;
    this.#channels.show(channel);
    this.#thread.show(channel);
    this.#composer.element.hidden = channel === FOR_YOU;
    this.#composer.show(channel);
    this.#title();
    if (matchMedia("(pointer: fine)").matches) this.#composer.focus();
  }

  /** Something else takes the page's place; it goes on hearing. */
  hide() {
    this.#isShown = false;
    this.#channels.show("");
  }

  /** @param {Change} change */
  #announce({ item }) {
    if (item.kind === "answer" && item.answer.state === "done") {
      this.#announcer.say(`${item.answer.agent}: ${item.answer.text}`);
    }
    if (item.kind === "publication") this.#announcer.say(`${nameOf(item.sender)}: ${item.body.text}`);
    if (item.kind === "notice") this.#announcer.say(item.text);
  }

  #title() {
    if (!this.#isShown) return;
    const { unread } = this.#channels;
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${this.#heading.textContent} · Smart City`;
  }

  #lookedAt() {
    if (document.hidden) return;
    if (this.#isShown) this.#channels.lookedAt();
    this.#title();
  }

  /** @param {boolean} isOpen */
  #showFrames(isOpen) {
    if (!isOpen && this.#frames.element.contains(document.activeElement)) this.#framesButton.focus();
    this.#frames.show(isOpen);
    this.#framesButton.setAttribute("aria-expanded", String(isOpen));
    this.element.toggleAttribute("data-frames", isOpen);
  }
}
