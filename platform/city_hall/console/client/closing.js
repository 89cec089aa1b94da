/** What a close code asks of a client: to come back or not, when, under which id, and in which words. */

/**
 * @typedef {{
 *   code: number,
 *   comesBack: boolean,
 *   waits: "not" | "moment" | "jitter" | number,
 *   resumes: boolean,
 *   blame: string,
 *   sentence: string,
 * }} Verdict
 *
 * `waits`: not at all, a moment of chance so that a crowd is no burst, the usual jitter, or at least so many milliseconds. `blame`: the code
 * of what was under way, which may have caused it and is not sent again; "" when nothing is to blame.
 */

/** Ends that this side decides. Codes below 1000 never stand on the wire (RFC 6455, 7.4.2). */
export const LOCAL = { silent: 1, unanswered: 2, renewed: 3 };

/** No platform sends anybody away for longer. */
const LONGEST_RETRY_AFTER_S = 600;

/** @type {Record<number, Partial<Verdict>>} */
const KNOWN = {
  1000: { comesBack: false, sentence: "The platform closed the connection." },
  1001: { sentence: "The platform went away." },
  1002: { blame: "invalid_message", sentence: "The platform could not follow this page." },
  1003: { blame: "invalid_message", sentence: "The platform could not take what was sent." },
  1006: { sentence: "The connection was lost." },
  1007: { blame: "invalid_message", sentence: "The platform could not read what was sent." },
  1008: { blame: "forbidden", sentence: "The platform does not take this connection." },
  1009: { blame: "too_large", sentence: "A message was too big for the platform." },
  1011: { sentence: "The platform had an internal error." },
  1012: { waits: "moment", sentence: "The platform is restarting." },
  1013: { sentence: "The platform is at capacity." },
  4008: { sentence: "The platform heard nothing from this page." },
  4009: { sentence: "This page was too slow to take what was sent." },
  4010: { resumes: false, sentence: "Another tab took over this connection." },
  4029: { sentence: "Too many connections of yours are open." },
  4501: { comesBack: false, sentence: "Your session has ended. Sign in again to go on." },
  4503: { comesBack: false, sentence: "The platform does not accept pages from this address." },
  [LOCAL.silent]: { sentence: "The platform went silent." },
  [LOCAL.unanswered]: { sentence: "The platform does not answer." },
  [LOCAL.renewed]: { waits: "not", sentence: "The session was renewed." },
};

/**
 * Judges the end of a connection.
 *
 * @param {number} code
 * @param {string} reason
 * @returns {Verdict}
 */
export function judge(code, reason = "") {
  const verdict = {
    code,
    comesBack: !(code === 1000 || (code >= 4500 && code <= 4999)),
    waits: /** @type {Verdict["waits"]} */ ("jitter"),
    resumes: true,
    blame: "",
    sentence: `The connection was closed (${code}).`,
    ...KNOWN[code],
  };
  const retryAfter = /\bretry_after=(\d+(?:\.\d+)?)/.exec(reason);
  if (verdict.comesBack && retryAfter) {
    verdict.waits = Math.ceil(Math.min(Number(retryAfter[1]), LONGEST_RETRY_AFTER_S) * 1000);
  }
  return verdict;
}
