/**
 * One entry of a conversation as an element that can be told it changed. What it says is decided elsewhere.
 */

import { bodyOf } from "../model/bodies.js";
import { nameOf, wordsFor } from "../model/channel_words.js";
import { counted, refusalInWords } from "../model/words.js";
import { clockTime, h } from "./elements.js";
import { icon } from "./icons.js";
import { Prose } from "./prose.js";

/** @import { AnswerItem, Item, NoticeItem, PublicationItem, QuestionItem } from "../model/threads.js" */
/** @import { Message } from "../model/outbox.js" */

/**
 * @typedef {{ element: HTMLElement, update: () => void }} Drawn
 * @typedef {{
 *   sendAgain: (key: string) => void, discard: (message: Message) => void, stop: (question: string) => void,
 * }} Actions  `stop`: the answer to the question with this message_id is not wanted any more
 */

/**
 * @param {Item} item
 * @param {Actions} actions
 * @returns {Drawn}
 */
export function drawItem(item, actions) {
  const drawn = item.kind === "question" ? question(item, actions)
    : item.kind === "answer" ? answer(item, actions)
    : item.kind === "publication" ? publication(item)
    : notice(item);
  drawn.update();
  return drawn;
}

/** Each progress has an icon of its own name. @type {Record<Message["progress"], string>} */
const PROGRESS = {
  waiting: "Waiting for the connection",
  sent: "Sent",
  safe: "Queued",
  failed: "Not sent",
};

/**
 * @param {QuestionItem} item
 * @param {Actions} actions
 * @returns {Drawn}
 */
function question(item, actions) {
  const { message, at } = item;
  const progress = h("span", { class: "progress" });
  const trouble = h("div", { class: "trouble" });
  const patience = h("span", { class: "patience" }, "No answer yet; it stays in line. ",
    h("button", { class: "small quiet", onclick: () => actions.stop(message.messageId) }, "Never mind"));
  const element = h("article", { class: "item question", "aria-label": "You" },
    h("p", { class: "said" }, message.text),
    h("footer", {}, clockTime(at), progress, patience),
    trouble);
  const update = () => {
    element.dataset.progress = message.progress;
    patience.hidden = message.progress !== "safe" || item.isAnswered;
    element.classList.toggle("awaits", !patience.hidden);
    progress.replaceChildren(icon(message.progress), h("span", {}, progressOf(item)));
    trouble.replaceChildren(...(message.progress === "failed" ? refusal(message, actions) : []));
  };
  return { element, update };
}

/** @param {QuestionItem} item */
function progressOf({ message, isAnswered }) {
  if (message.progress === "safe" && isAnswered) return "Delivered";
  return message.status === "held" ? "Held until the store is back" : PROGRESS[message.progress];
}

/**
 * @param {Message} message
 * @param {Actions} actions
 */
function refusal(message, actions) {
  const sentence = message.refusal ? refusalInWords(message.refusal) : "";
  return [
    h("p", {}, sentence),
    h("div", { class: "actions" },
      h("button", { class: "small", onclick: () => actions.sendAgain(message.key) }, "Send again"),
      h("button", { class: "small quiet", onclick: () => actions.discard(message) }, "Discard")),
  ];
}

/**
 * @param {AnswerItem} item
 * @param {Actions} actions
 * @returns {Drawn}
 */
function answer(item, actions) {
  const { agent, channel } = item.answer;
  const prose = new Prose();
  const remark = h("p", { class: "remark" });
  const data = h("pre", { class: "data", tabindex: "0" });
  const { line } = wordsFor(channel);
  const stop = h("button", { class: "small quiet stop", onclick: () => actions.stop(item.answer.question) }, "Stop");
  const element = h("article", { class: "item answer", "aria-label": agent, "data-line": line },
    h("header", {}, h("span", { class: "name" }, agent.replaceAll("_", " ")), clockTime(item.at)),
    prose.element, data, remark, stop);
  const update = () => {
    const { state, text, payload } = item.answer;
    stop.hidden = state !== "writing" && state !== "retrying";
    const json = bodyOf(payload).data;
    element.dataset.state = state;
    element.classList.toggle("silent", state === "writing" && !text);
    element.toggleAttribute("aria-busy", state === "writing");
    prose.show(text);
    data.hidden = !json;
    data.textContent = json;
    remark.textContent = remarkOn(item.answer);
    remark.hidden = !remark.textContent;
  };
  return { element, update };
}

/** @param {AnswerItem["answer"]} answer */
function remarkOn({ state, refusal, attempt, hasGap }) {
  const words = refusal ? refusal.message || refusalInWords(refusal) : "";
  if (state === "retrying") return `${words} Trying again…`;
  if (state === "failed" && refusal?.code === "stopped") return "Stopped.";
  if (state === "failed") return `No answer: ${words}`;
  if (state === "interrupted") return "The rest of this answer was lost on the way.";
  if (hasGap) return "Some words are missing; the whole answer follows.";
  if (attempt > 1) return `Answered after ${counted(attempt, "attempt")}.`;
  return "";
}

/** @param {PublicationItem} item @returns {Drawn} */
function publication({ sender, body, at }) {
  const prose = new Prose();
  prose.show(body.text);
  const kind = { service: "service", agent: "agent", user: "person" }[sender.kind];
  const name = nameOf(sender);
  const element = h("article", { class: "item publication", "aria-label": `Published by ${name}` },
    h("header", {}, h("span", { class: "name" }, name), h("span", { class: "kind" }, kind), clockTime(at)),
    body.text && prose.element,
    body.data && h("pre", { class: "data", tabindex: "0" }, body.data));
  return { element, update: () => {} };
}

/** @param {NoticeItem} item @returns {Drawn} */
function notice({ text, tone }) {
  return { element: h("p", { class: `item notice ${tone}` }, text), update: () => {} };
}
