/** Which conversation a log belongs to: a channel is its own, both private logs are one. */

/** Where things addressed to the person rather than sent on a channel are shown. */
export const FOR_YOU = "for you";

/** @param {string} log */
export function placeOf(log) {
  return log.startsWith("user:") || log.startsWith("connection:") ? FOR_YOU : log;
}
