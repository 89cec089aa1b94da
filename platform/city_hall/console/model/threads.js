/** What stands in each channel's conversation, in reading order and bounded. Values for a page to draw. */

import { Signal, newKey } from "../client/index.js";

/** @import { Answer, Sender } from "../client/index.js" */
/** @import { Body } from "./bodies.js" */
/** @import { Message } from "./outbox.js" */

/**
 * @typedef {{ kind: "question", id: string, at: number, message: Message, isAnswered: boolean }} QuestionItem
 * @typedef {{ kind: "answer", id: string, at: number, answer: Answer }} AnswerItem
 * @typedef {{ kind: "publication", id: string, at: number, sender: Sender, body: Body }} PublicationItem
 * @typedef {{ kind: "notice", id: string, at: number, tone: "gap" | "error", text: string }} NoticeItem
 * @typedef {QuestionItem | AnswerItem | PublicationItem | NoticeItem} Item
 * @typedef {{ channel: string, item: Item, isNew: boolean }} Change
 */

export const MOST_ITEMS = 400;

export class Threads {
  /** @type {Signal<Change>} */
  changed = new Signal();

  /** @type {Map<string, Item[]>} */
  #threads;

  /** @param {Iterable<[string, Item[]]>} kept from an earlier life of the page */
  constructor(kept = []) {
    this.#threads = new Map(kept);
  }

  /** @returns {[string, Item[]][]} */
  all() {
    return [...this.#threads];
  }

  /** @param {string} channel @returns {readonly Item[]} */
  of(channel) {
    return this.#threads.get(channel) ?? [];
  }

  /**
   * Puts a message of one's own in, or tells that it got further.
   *
   * @param {Message} message
   * @param {number} at
   */
  question(message, at) {
    const known = this.#find(message.channel, message.key);
    if (known?.kind === "question" && message.messageId) this.#adoptAnswer(known);
    const { channel, key: id } = message;
    this.#put(channel, known ?? { kind: "question", id, at, message, isAnswered: false });
  }

  /**
   * Puts an answer under its question, or tells that it grew. A question that was handed on is answered where
   * it was asked, not where its answer comes from.
   *
   * @param {Answer} answer
   */
  answer(answer) {
    const id = idOf(answer.question);
    const asked = this.#where((item) => isQuestion(item, answer.question));
    const place = this.#where((item) => item.id === id)?.channel ?? asked?.channel ?? answer.channel;
    const known = this.#find(place, id);
    if (known?.kind === "answer") known.answer = answer;
    this.#put(place, known ?? { kind: "answer", id, at: Date.parse(answer.at), answer });
    if (!known && asked?.item.kind === "question") {
      asked.item.isAnswered = true;
      this.#put(asked.channel, asked.item);
    }
  }

  /**
   * @param {string} channel
   * @param {Omit<PublicationItem, "kind">} publication one that came before is passed over
   */
  publication(channel, publication) {
    if (!this.#find(channel, publication.id)) this.#put(channel, { kind: "publication", ...publication });
  }

  /**
   * @param {string} channel
   * @param {Pick<NoticeItem, "tone" | "text" | "at">} notice
   */
  notice(channel, notice) {
    this.#put(channel, { kind: "notice", id: `notice:${newKey()}`, ...notice });
  }

  /**
   * @param {string} channel
   * @param {string} id
   */
  remove(channel, id) {
    const items = this.#threads.get(channel) ?? [];
    const item = items.find((item) => item.id === id);
    if (!item) return;
    items.splice(items.indexOf(item), 1);
    this.changed.emit({ channel, item, isNew: false });
  }

  /**
   * @param {string} channel
   * @param {string} id
   */
  #find(channel, id) {
    return this.#threads.get(channel)?.find((item) => item.id === id);
  }

  /**
   * @param {string} channel
   * @param {Item} item
   */
  #put(channel, item) {
    const items = this.#threads.get(channel) ?? [];
    this.#threads.set(channel, items);
    const isNew = !items.includes(item);
    if (isNew) items.splice(placeOf(items, item), 0, item);
    if (items.length > MOST_ITEMS) items.shift();
    this.changed.emit({ channel, item, isNew });
  }

  /**
   * An answer may be faster than the ack that tells which question it belongs to.
   *
   * @param {QuestionItem} question
   */
  #adoptAnswer(question) {
    const { channel, messageId } = question.message;
    const answer = this.#where(({ id }) => id === idOf(messageId));
    if (!answer || question.isAnswered) return;
    question.isAnswered = true;
    this.remove(answer.channel, answer.item.id);
    this.#put(channel, answer.item);
  }

  /** @param {(item: Item) => boolean} isIt */
  #where(isIt) {
    for (const [channel, items] of this.#threads) {
      const item = items.find(isIt);
      if (item) return { channel, item };
    }
    return null;
  }
}

/**
 * Answers stand right under their question; all else at the end.
 *
 * @param {Item[]} items
 * @param {Item} item
 */
function placeOf(items, item) {
  if (item.kind !== "answer") return items.length;
  const question = items.findIndex((other) => isQuestion(other, item.answer.question));
  return question < 0 ? items.length : question + 1;
}

/** @param {string} question the message_id that is answered */
function idOf(question) {
  return `answer:${question}`;
}

/**
 * @param {Item} item
 * @param {string} messageId
 */
function isQuestion(item, messageId) {
  return item.kind === "question" && item.message.messageId === messageId;
}
