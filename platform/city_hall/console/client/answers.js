/**
 * Answers put together from their parts. Every question has one answer, whose attempts replace one another;
 * parts that come twice change nothing. Text with a hole is never shown: after a missing part it stands still
 * until a snapshot or the end brings it whole.
 */

/** @import { Refusal } from "./errors.js" */
/** @import { ChatResponse, Payload } from "./protocol.js" */

/**
 * @typedef {"writing" | "done" | "retrying" | "failed" | "interrupted"} AnswerState
 * @typedef {{
 *   question: string, messageId: string, channel: string, agent: string, conversationId: string,
 *   attempt: number, edition: number, state: AnswerState, text: string, payload: Payload, part: number,
 *   hasGap: boolean, refusal: Refusal | null, at: string,
 * }} Answer  `question`: the message_id that it answers; `text` only grows within one `edition`; `payload` is
 *   whole once it is done
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

  /** @param {string} question */
  to(question) {
    return this.#answers.get(question) ?? null;
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
      conversationId: "", attempt: (known?.attempt ?? 0) + 1,
      edition: (known?.edition ?? 0) + (known?.text ? 1 : 0), state: "writing", text: "", payload: {}, part: 0,
      hasGap: false, refusal: null, at: frame.timestamp,
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

/** The text that a payload carries; "" if it carries none. @param {Payload | undefined} payload */
export function textOf(payload) {
  return typeof payload?.message === "string" ? payload.message : "";
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
  answer.conversationId ||= frame.conversation_id ?? "";
  if (frame.stream === "delta") return grow(answer, frame);
  if (frame.stream === "start") return begin(answer, frame);
  if (frame.stream === "error") return fail(answer, frame);
  if ("message" in frame.payload || !answer.text) show(answer, textOf(frame.payload));
  Object.assign(answer, { payload: frame.payload, state: "done", hasGap: false });
  return true;
}

/**
 * @param {Answer} answer
 * @param {ChatResponse} frame
 */
function begin(answer, frame) {
  const isFirst = answer.part === 0 && answer.text === "";
  if (isFirst) show(answer, textOf(frame.payload));
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
  if (answer.hasGap) return true;
  show(answer, snapshot ? textOf(payload) : answer.text + textOf(payload));
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

/**
 * @param {Answer} answer
 * @param {string} text
 */
function show(answer, text) {
  if (!text.startsWith(answer.text)) answer.edition += 1;
  answer.text = text;
}
