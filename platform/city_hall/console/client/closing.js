/** What a close code asks of a client: to come back or not, when, under which id, and in which words. */

/**
 * @typedef {{
 *   code: number,
 *   comesBack: boolean,
 *   waits: "not" | "jitter" | number,
 *   resumes: boolean,
 *   blamesFrame: boolean,
 *   sentence: string,
 * }} Verdict
 *
 * `waits`: not at all, the usual jitter, or at least so many milliseconds. `blamesFrame`: something we sent
 * may have caused it, and is not sent again.
 */

/** Ends that this side decides. Codes below 1000 never stand on the wire (RFC 6455, 7.4.2). */
export const LOCAL = { silent: 1, unanswered: 2, renewed: 3 };

/** @type {Record<number, Partial<Verdict>>} */
const KNOWN = {
  1000: { comesBack: false, sentence: "The platform closed the connection." },
  1001: { sentence: "The platform went away." },
  1003: { blamesFrame: true, sentence: "The platform could not take what was sent." },
  1006: { sentence: "The connection was lost." },
  1007: { blamesFrame: true, sentence: "The platform could not read what was sent." },
  1009: { blamesFrame: true, sentence: "A message was too big for the platform." },
  1011: { sentence: "The platform had an internal error." },
  1012: { waits: "not", sentence: "The platform is restarting." },
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
    waits: /** @type {"not" | "jitter" | number} */ ("jitter"),
    resumes: true,
    blamesFrame: false,
    sentence: `The connection was closed (${code}).`,
    ...KNOWN[code],
  };
  const retryAfter = /\bretry_after=(\d+(?:\.\d+)?)/.exec(reason);
  if (verdict.comesBack && retryAfter) verdict.waits = Math.ceil(Number(retryAfter[1]) * 1000);
  return verdict;
}
