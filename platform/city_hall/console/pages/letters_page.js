/** The dead letters of one inbox: what no agent would or could answer, put back or dropped here. */

import { since } from "../model/measures.js";
import { addressOf } from "../model/routes.js";
import { Watch } from "../model/watch.js";
import { h } from "../ui/elements.js";
import { live } from "../ui/live.js";
import { Table } from "../ui/table.js";
import { afterAsking } from "./acting.js";
import { nothing, sheet } from "./place.js";

/** @import { Place } from "./place.js" */

/**
 * @typedef {{
 *   message_id: string, asker: string, why: string, attempts: number, requeued: number, asked_at: string,
 *   died_at: string, bytes: number, message?: { payload: Record<string, unknown> },
 * }} DeadLetter
 * @typedef {{ dead_letters: DeadLetter[], next?: string }} Listed
 */

const EVERY_MS = 5000;
const MOST = 50;
const SHOWN = 300;

/** @type {Record<string, string>} */
const REASONS = {
  lapsed: "the agent hung", closed: "the agent went away", lost: "the agent's instance died",
  expired: "nobody took it in time", too_large: "the answer was too long", hops: "handed on too often",
};

/**
 * @param {Place} place
 * @param {string} channel
 */
export function lettersPage(place, channel) {
  const { after = "" } = place.route.query;
  /** @type {Watch<Listed>} */
  const watch = new Watch((signal) => place.access.call(
    "post_office.list_dead_letters", { channel, limit: MOST, ...(after ? { after } : {}) }, { signal }),
  { every: EVERY_MS, clock: place.clock });
  const table = letterTable(place, channel, () => watch.now());
  const older = h("a", { class: "older", hidden: true }, "Older ones");
  const content = h("div", {}, table.element, older);
  return sheet({
    title: `Dead letters of ${channel}`, about: "What no agent would or could answer; whoever asked was told of an error",
    back: { href: addressOf("queues"), label: "Queues" },
  },
  live(place, watch, content, ({ dead_letters: letters, next = "" }) => {
    table.show(letters);
    older.hidden = letters.length < MOST;
    older.setAttribute("href", addressOf("queues", channel, { after: next }));
  }));
}

/**
 * @param {Place} place
 * @param {string} channel
 * @param {() => void} renew
 */
function letterTable(place, channel, renew) {
  const ago = (/** @type {string} */ moment) => since(Date.parse(moment), place.clock.now());
  /** @type {Table<DeadLetter>} */
  const table = new Table({
    caption: `Dead letters of ${channel}, the last to die first`,
    key: ({ message_id, died_at }) => `${message_id} ${died_at}`,
    empty: nothing("There is no dead letter."),
    columns: [
      { title: "Asked by", node: who },
      { title: "Said", text: said },
      { title: "Why", text: why },
      { title: "Attempts", kind: "number", text: ({ attempts }) => String(attempts) },
      { title: "Asked", kind: "line", text: ({ asked_at }) => ago(asked_at) },
      { title: "Died", kind: "line", text: ({ died_at }) => ago(died_at) },
      { title: "Act", kind: "actions", node: (now) => buttons(place, channel, now, renew) },
    ],
  });
  return table;
}

/** @param {() => DeadLetter} now */
function who(now) {
  const { asker, message_id: id } = now();
  return h("span", { class: "twofold" },
    h("a", { href: addressOf("connections", "", { user: asker }) }, asker), h("code", {}, id));
}

/** @param {DeadLetter} letter */
function said({ message, bytes }) {
  if (!message) return `${bytes} bytes`;
  const { message: text } = message.payload;
  const words = typeof text === "string" ? text : JSON.stringify(message.payload);
  return words.length > SHOWN ? `${words.slice(0, SHOWN)}…` : words;
}

/** @param {DeadLetter} letter */
function why({ why: word, requeued }) {
  const words = REASONS[word] ?? word.replace(/^failed: ?/, "the agent gave up: ");
  return requeued > 0 ? `${words} (put back ${requeued} times)` : words;
}

/**
 * @param {Place} place
 * @param {string} channel
 * @param {() => DeadLetter} now
 * @param {() => void} renew
 */
function buttons(place, channel, now, renew) {
  const { asker, message_id } = now();
  const act = (/** @type {"requeue" | "drop"} */ verb) => place.access.call(
    `post_office.${verb}_dead_letter`, { channel, message_id });
  const requeue = {
    title: `Put the question of ${asker} back?`, action: "Put back",
    text: "Agents try it again from the beginning. The answer comes after the error that its asker had.",
  };
  const drop = { title: `Drop the question of ${asker}?`, action: "Drop", text: "It is gone for good then." };
  const button = (/** @type {string} */ words, /** @type {() => void} */ onclick) => h("button", {
    class: "small", type: "button", onclick, "aria-label": `${words} the question ${message_id} of ${asker}`,
  }, words);
  return h("span", { class: "actions" },
    button("Put back", () => afterAsking(place, requeue, async () => {
      await act("requeue");
      return `The question of ${asker} is in the inbox again.`;
    }, renew)),
    button("Drop", () => afterAsking(place, drop, async () => {
      await act("drop");
      return `The question of ${asker} is dropped.`;
    }, renew)));
}
