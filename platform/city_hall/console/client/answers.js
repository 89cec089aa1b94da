/**
 * Answers put together from their parts. Every question has one answer, whose attempts replace one another;
 * parts that come twice change nothing, and a gap is mended by the snapshot or the end.
 */

import { bodyOf, textOf } from "./bodies.js";

/** @import { ChatResponse, Refusal } from "./protocol.js" */

/**
 * @typedef {"writing" | "done" | "retrying" | "failed" | "interrupted"} AnswerState
 * @typedef {{
 *   question: string, messageId: string, channel: string, agent: string, attempt: number,
 *   state: AnswerState, text: string, data: string, part: number, hasGap: boolean,
 *   refusal: Refusal | null, at: string,
 * }} Answer  `question`: the message_id that it answers
 */

export const MOST_ANSWERS = 1000;

export class Answers {
  /** @type {Map<string, Answer>} by the question's message_id */
  #answers = new Map();
  /** @type {Map<string, Set<string>>} attempts that another one replaced, by question */
  #replaced = new Map();

  /** @param {Answer[]} kept from an earlier life of the page */
  constructor(kept = []) {
    for (const answer of kept) this.#answers.set(answer.question, answer);
  }

  /**
   * @param {ChatResponse} frame
   * @returns {Answer | null} null when the frame brought nothing new
   */
  apply(frame) {
    if (this.#replaced.get(frame.in_reply_to)?.has(frame.message_id)) return null;
    const known = this.#answers.get(frame.in_reply_to);
    if (known?.messageId === frame.message_id) return take(known, frame) ? known : null;
    const answer = this.#begin(frame, known);
    take(answer, frame);
    return answer;
  }

  /** The rest of what is being written cannot come any more, as far as one can tell. */
  interrupt() {
    const open = [...this.#answers.values()].filter(({ state }) => ["writing", "retrying"].includes(state));
    for (const answer of open) answer.state = "interrupted";
    return open;
  }

  /**
   * @param {ChatResponse} frame
   * @param {Answer | undefined} known the attempt before
   * @returns {Answer}
   */
  #begin(frame, known) {
    /** @type {Answer} */
    const answer = {
      question: frame.in_reply_to, messageId: frame.message_id, channel: frame.channel, agent: frame.agent,
      attempt: known ? known.attempt + 1 : 1, state: "writing", text: "", data: "", part: 0, hasGap: false,
      refusal: null, at: frame.timestamp,
    };
    if (known) {
      const replaced = this.#replaced.get(frame.in_reply_to) ?? new Set();
      this.#replaced.set(frame.in_reply_to, replaced.add(known.messageId));
    }
    this.#answers.set(frame.in_reply_to, answer);
    this.#forgetOldest();
    return answer;
  }

  #forgetOldest() {
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= MOST_ANSWERS) return;
      this.#answers.delete(oldest);
      this.#replaced.delete(oldest);
    }
  }
}

/**
 * Lets one frame of this attempt work on the answer.
 *
 * @param {Answer} answer
 * @param {ChatResponse} frame
 * @returns {boolean} whether anything changed
 */
function take(answer, frame) {
  const isOver = answer.state === "done" || answer.state === "failed" || answer.state === "retrying";
  if (isOver) return false;
  if (frame.stream === "delta") return grow(answer, frame);
  if (frame.stream === "start") return begin(answer, frame);
  if (frame.stream === "error") return fail(answer, frame);
  Object.assign(answer, bodyOf(frame.payload), { state: "done", hasGap: false });
  return true;
}

/**
 * @param {Answer} answer
 * @param {ChatResponse} frame
 */
function begin(answer, frame) {
  const isFirst = answer.part === 0 && answer.text === "";
  if (isFirst) answer.text = textOf(frame.payload);
  return isFirst;
}

/**
 * @param {Answer} answer
 * @param {ChatResponse} frame
 */
function grow(answer, { payload, part = answer.part + 1, snapshot = false }) {
  if (part <= answer.part) return false;
  answer.state = "writing";
  answer.hasGap = !snapshot && (answer.hasGap || part !== answer.part + 1);
  answer.text = snapshot ? textOf(payload) : answer.text + textOf(payload);
  answer.part = part;
  return true;
}

/**
 * @param {Answer} answer
 * @param {ChatResponse} frame
 */
function fail(answer, { error, retrying = false }) {
  answer.state = retrying ? "retrying" : "failed";
  answer.refusal = error ?? { code: "internal", message: "The agent could not answer." };
  return true;
}
