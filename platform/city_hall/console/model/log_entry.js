/** A publication as a page of a log shows it, whichever way it came: read from the history, or heard. */

/** @import { Message, Sender } from "../client/index.js" */

/**
 * @typedef {{
 *   offset: number, epoch: string, sender: Sender, payload: Record<string, unknown>, intent: string,
 *   messageId: string, timestamp: string,
 * }} LogEntry
 * @typedef {{
 *   offset: number, epoch: string, sender: Sender, payload: Record<string, unknown>, intent?: string,
 *   message_id: string, timestamp: string,
 * }} HistoryEntry  as `post_office.get_channel_history` gives it
 */

/** @param {HistoryEntry} entry @returns {LogEntry} */
export function entryOfHistory({ offset, epoch, sender, payload, intent = "", message_id, timestamp }) {
  return { offset, epoch, sender, payload, intent, messageId: message_id, timestamp };
}

/** @param {Message} message @returns {LogEntry} */
export function entryOfMessage({ offset, epoch, sender, payload, intent, messageId, timestamp }) {
  return { offset, epoch, sender, payload, intent, messageId, timestamp };
}

/** What it says, on one line. @param {LogEntry} entry */
export function lineOf({ payload }) {
  const { message, ...rest } = payload;
  const isPlain = typeof message === "string" && message !== "";
  if (!isPlain) return JSON.stringify(payload);
  return Object.keys(rest).length > 0 ? `${message} ${JSON.stringify(rest)}` : message;
}
