/** Publications and positions in the library's own shape: what a program reads, rather than what travels. */

/** @import { Payload, Position, Publication, Sender } from "./protocol.js" */

/**
 * @typedef {{ reason: string, after: Position | null }} Gap  what came right after `after` is lost
 * @typedef {{
 *   channel: string, offset: number, epoch: string, payload: Payload, sender: Sender, intent: string,
 *   messageId: string, inReplyTo: string, timestamp: string, gap: Gap | null,
 * }} Message  a publication; `gap`: what was lost right before it
 * @typedef {Position | string | null} Since  a position, or its text "OFFSET.EPOCH"; null is now
 * @typedef {string | Iterable<string> | Record<string, Since>} Channels  names, or names with positions
 */

/**
 * @param {Publication} frame
 * @param {Gap | null} gap
 * @returns {Message}
 */
export function messageOf(frame, gap) {
  return {
    channel: frame.channel, offset: frame.offset ?? 0, epoch: frame.epoch ?? "", payload: frame.payload,
    sender: frame.sender, intent: frame.intent ?? "", messageId: frame.message_id,
    inReplyTo: frame.in_reply_to ?? "", timestamp: frame.timestamp, gap,
  };
}

/** @param {Position} position "OFFSET.EPOCH" */
export function positionText({ offset, epoch }) {
  return epoch ? `${offset}.${epoch}` : String(offset);
}

/**
 * @param {Since} since
 * @returns {Position | null}
 */
export function positionOf(since) {
  if (typeof since !== "string") return since;
  const { offset, epoch = "" } = /^(?<offset>\d+)(?:\.(?<epoch>[^.]+))?$/.exec(since)?.groups ?? {};
  if (offset === undefined) throw new TypeError(`${since} is no position, which is "OFFSET.EPOCH"`);
  return { offset: Number(offset), epoch };
}

/**
 * @param {Channels} channels
 * @param {Since} since the position in the one channel named
 * @returns {Record<string, Position | null>}
 */
export function placesOf(channels, since = null) {
  const named = typeof channels === "string" ? { [channels]: null }
    : Symbol.iterator in channels ? Object.fromEntries([...channels].map((channel) => [channel, null]))
    : channels;
  const names = Object.keys(named);
  if (names.length === 0 || (since !== null && names.length !== 1)) {
    throw new TypeError("name a channel; `since` goes with exactly one, several take {channel: position}");
  }
  return Object.fromEntries(Object.entries(named).map(([name, own]) => [name, positionOf(since ?? own)]));
}
