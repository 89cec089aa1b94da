/** The sessions of people: whose they are and what they may, made and ended here. */

import { grouped, since } from "../model/measures.js";
import { addressOf } from "../model/routes.js";
import { Watch } from "../model/watch.js";
import { h } from "../ui/elements.js";
import { field } from "../ui/fields.js";
import { live } from "../ui/live.js";
import { Table } from "../ui/table.js";
import { afterAsking } from "./acting.js";
import { settled, userFilter } from "./filters.js";
import { grantsField } from "./grants.js";
import { lifetimeField } from "./lifetimes.js";
import { makeButton, makingDialog } from "./making.js";
import { nothing, sheet } from "./place.js";
import { showSecret } from "./secret.js";

/** @import { Place } from "./place.js" */

/**
 * @typedef {{
 *   session_id: string, user_id: string, session_type: string, channels: Record<string, string[]>,
 *   created_at: string, expires_at: string,
 * }} Session
 * @typedef {{ total: number, sessions: Session[] }} Listed
 */

const EVERY_MS = 5000;
const MOST = 200;
const USER = "[A-Za-z0-9._@\\-][A-Za-z0-9._~@\\-]{0,127}";

/** @param {Place} place */
export function sessionsPage(place) {
  const user = userFilter(place.route.query.user ?? "", "alice");
  const count = h("p", { class: "count", role: "status" });
  const all = h("button", { class: "small", type: "button", hidden: true, onclick: () => revokeAll() });
  const asked = () => ({ limit: MOST, ...(user.value.trim() ? { user_id: user.value.trim() } : {}) });

  /** @type {Watch<Listed>} */
  const watch = new Watch((signal) => place.access.call("traffic_cop.list_sessions", asked(), { signal }),
    { every: EVERY_MS, clock: place.clock });
  const renew = () => watch.now();
  const table = sessionTable(place, renew);
  user.addEventListener("input", settled(() => {
    if (!user.checkValidity()) return;
    history.replaceState(null, "", addressOf("sessions", "", { user: user.value.trim() }));
    renew();
  }, place.signal));
  const revokeAll = () => revoke(place, user.value.trim(), { user_id: user.value.trim() }, renew);
  const body = live(place, watch, table.element, ({ total, sessions }) => {
    const name = user.value.trim();
    table.show(sessions);
    count.textContent = total > sessions.length ? `${sessions.length} of ${grouped(total)}, those that live longest`
      : `${grouped(total)} ${total === 1 ? "session" : "sessions"}`;
    all.hidden = !name || total < 2;
    all.textContent = `Revoke all of ${name}`;
  });
  return sheet({
    title: "Sessions", about: "People who may talk, each until the session ends",
    tools: [makeButton("New session", () => create(place, renew))],
  },
  h("form", { class: "toolbar", role: "search", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    h("label", {}, "User", user), all, count), body);
}

/**
 * @param {Place} place
 * @param {() => void} renew
 */
function sessionTable(place, renew) {
  const ago = (/** @type {string} */ moment) => since(Date.parse(moment), place.clock.now());
  /** @type {Table<Session>} */
  const table = new Table({
    caption: "Sessions, those that live longest first",
    key: ({ session_id }) => session_id,
    empty: nothing("There is no session.", h("p", {}, "Whoever signs in gets one; you can make one, too.")),
    columns: [
      { title: "User", node: who },
      { title: "Made for", text: ({ session_type }) => session_type },
      { title: "Created", kind: "line", text: ({ created_at }) => ago(created_at) },
      { title: "Ends", kind: "line", text: ({ expires_at }) => ago(expires_at) },
      { title: "May", text: ({ channels }) => grantsInWords(channels) },
      { title: "Revoke", kind: "actions", node: (now) => revokeButton(place, now, renew) },
    ],
  });
  return table;
}

/** @param {() => Session} now */
function who(now) {
  const { user_id, session_id } = now();
  return h("span", { class: "twofold" },
    h("a", { href: addressOf("connections", "", { user: user_id }) }, user_id), h("code", {}, session_id));
}

/** Channels with the same rights stand together. @param {Record<string, string[]>} channels */
function grantsInWords(channels) {
  /** @type {Map<string, string[]>} */
  const byRights = new Map();
  for (const [channel, rights] of Object.entries(channels)) {
    const words = rights.join(", ");
    byRights.set(words, [...(byRights.get(words) ?? []), channel]);
  }
  const told = [...byRights].map(([rights, names]) => `${rights} on ${names.join(", ")}`);
  return told.join("; ") || "nothing but its own";
}

/**
 * @param {Place} place
 * @param {() => Session} now
 * @param {() => void} renew
 */
function revokeButton(place, now, renew) {
  const { user_id, session_id } = now();
  return h("button", {
    class: "small", type: "button", "aria-label": `Revoke the session ${session_id} of ${user_id}`,
    onclick: () => revoke(place, user_id, { session_id }, renew),
  }, "Revoke");
}

/**
 * @param {Place} place
 * @param {string} user
 * @param {{ session_id: string } | { user_id: string }} which
 * @param {() => void} renew
 */
function revoke(place, user, which, renew) {
  const isOne = "session_id" in which;
  const question = {
    title: isOne ? `Revoke this session of ${user}?` : `Revoke all sessions of ${user}?`, action: "Revoke",
    text: "Its tokens are good for nothing from now on, and its sockets close within a second, on every instance.",
  };
  return afterAsking(place, question, async () => {
    const { revoked } = await place.access.call("traffic_cop.revoke_session", which);
    return `${grouped(revoked)} ${revoked === 1 ? "session" : "sessions"} of ${user} ended.`;
  }, renew);
}

/**
 * @param {Place} place
 * @param {() => void} renew
 */
function create(place, renew) {
  const user = h("input", {
    name: "user_id", required: true, pattern: USER, autocapitalize: "none", spellcheck: "false",
  });
  const type = h("input", { name: "session_type", value: "user", required: true });
  const lifetime = lifetimeField("3600");
  const grants = grantsField();
  makingDialog({
    title: "New session", action: "Create", signal: place.signal,
    fields: [
      field("User", user, "Letters, digits and . _ ~ @ -"),
      field("Made for", type, "What kind of client, in your words"),
      field("Lives", lifetime), grants.element,
    ],
    make: () => place.access.call("traffic_cop.create_session", {
      user_id: user.value, session_type: type.value, ttl_seconds: Number(lifetime.value),
      ...(grants.value() ? { channels: grants.value() } : {}),
    }),
    made: ({ session_token, user_id, expires_at }) => {
      renew();
      showSecret({
        title: `A session of ${user_id}`, token: session_token, signal: place.signal,
        facts: [`It ends ${since(Date.parse(expires_at), place.clock.now())}.`],
      });
    },
  });
}
