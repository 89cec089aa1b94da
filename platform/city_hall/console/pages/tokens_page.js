/** The tokens of services and agents: which realm they speak for and what they may, made and ended here. */

import { grouped, since } from "../model/measures.js";
import { Watch } from "../model/watch.js";
import { h } from "../ui/elements.js";
import { field, tickBox } from "../ui/fields.js";
import { live } from "../ui/live.js";
import { Table } from "../ui/table.js";
import { afterAsking } from "./acting.js";
import { lifetimeField } from "./lifetimes.js";
import { makeButton, makingDialog } from "./making.js";
import { nothing, sheet } from "./place.js";
import { showSecret } from "./secret.js";

/** @import { Place } from "./place.js" */

/**
 * @typedef {{
 *   token_id: string, realm: string, scopes: string[], created_at: string, expires_at?: string,
 * }} ServiceToken
 */

const EVERY_MS = 5000;
const MOST_SHOWN = 500;

/** @param {Place} place */
export function tokensPage(place) {
  const count = h("p", { class: "count", role: "status" });
  const filter = h("input", { type: "search", name: "realm", placeholder: "reports", "data-filter": true });
  /** @type {Watch<ServiceToken[]>} */
  const watch = new Watch(
    async (signal) => (await place.access.call("traffic_cop.list_service_tokens", {}, { signal })).tokens,
    { every: EVERY_MS, clock: place.clock });
  const renew = () => watch.now();
  const table = tokenTable(place, renew);
  const draw = (/** @type {ServiceToken[]} */ tokens) => {
    const found = tokens.filter(({ realm }) => realm.includes(filter.value.trim()));
    table.show(found.slice(0, MOST_SHOWN));
    count.textContent = found.length > MOST_SHOWN ? `${MOST_SHOWN} of ${grouped(found.length)} tokens`
      : `${grouped(found.length)} ${found.length === 1 ? "token" : "tokens"}`;
  };
  const body = live(place, watch, table.element, draw);
  filter.addEventListener("input", () => watch.seen.value && draw(watch.seen.value));
  return sheet({
    title: "Service tokens", about: "Programs that may call operations, and agents that answer",
    tools: [makeButton("New token", () => create(place, renew))],
  },
  h("form", { class: "toolbar", role: "search", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    h("label", {}, "Realm", filter), count), body);
}

/**
 * @param {Place} place
 * @param {() => void} renew
 */
function tokenTable(place, renew) {
  /** @type {Table<ServiceToken>} */
  const table = new Table({
    caption: "Service tokens, by realm",
    key: ({ token_id }) => token_id,
    empty: nothing("There is no service token.", h("p", {}, "A service or an agent needs one to come in.")),
    columns: [
      {
        title: "Realm",
        node: (now) => h("span", { class: "twofold" }, h("span", {}, now().realm), h("code", {}, now().token_id)),
      },
      { title: "May", node: (now) => scopesOf(now().scopes) },
      { title: "Created", kind: "line", text: ({ created_at }) => since(Date.parse(created_at), place.clock.now()) },
      {
        title: "Ends", kind: "line",
        text: ({ expires_at }) => (expires_at ? since(Date.parse(expires_at), place.clock.now()) : "when revoked"),
      },
      { title: "Revoke", kind: "actions", node: (now) => revokeButton(place, now, renew) },
    ],
  });
  return table;
}

/** @param {string[]} scopes */
function scopesOf(scopes) {
  return h("span", { class: "scopes" }, ...scopes.map((scope) => h("code", {}, scope)));
}

/**
 * @param {Place} place
 * @param {() => ServiceToken} now
 * @param {() => void} renew
 */
function revokeButton(place, now, renew) {
  const { token_id, realm } = now();
  const question = {
    title: `Revoke this token of ${realm}?`, action: "Revoke",
    text: `${token_id} is good for nothing from now on; what runs with it is cut off within a second, ` +
      "on every instance.",
  };
  const onclick = () => afterAsking(place, question, async () => {
    await place.access.call("traffic_cop.revoke_service_token", { token_id });
    return `The token ${token_id} of ${realm} is revoked.`;
  }, renew);
  return h("button", {
    class: "small", type: "button", onclick, "aria-label": `Revoke the token ${token_id} of ${realm}`,
  }, "Revoke");
}

/**
 * A token hands on only what it has itself, so nothing else is offered.
 *
 * @param {Place} place
 * @param {() => void} renew
 */
function create(place, renew) {
  const { state } = place.access;
  const scopes = state.phase === "open" ? state.identity.scopes : [];
  const boxes = scopes.map((scope) => h("input", { type: "checkbox", value: scope }));
  const realm = h("input", {
    name: "realm", required: true, placeholder: "reports", autocapitalize: "none", spellcheck: "false",
  });
  const lifetime = lifetimeField("", true);
  makingDialog({
    title: "New service token", action: "Create", signal: place.signal,
    fields: [
      field("Realm", realm, "The name under which the service speaks"), field("Lives", lifetime),
      h("fieldset", {}, h("legend", {}, "What it may"),
        h("div", { class: "scope-boxes" }, ...boxes.map((box) => tickBox(box.value, box))),
        h("p", { class: "wrong", "data-wrong-for": "scopes" })),
    ],
    make: () => place.access.call("traffic_cop.create_service_token", {
      realm: realm.value, scopes: boxes.filter(({ checked }) => checked).map(({ value }) => value),
      ...(lifetime.value ? { ttl_seconds: Number(lifetime.value) } : {}),
    }),
    made: ({ token, realm: made, scopes: held }) => {
      renew();
      showSecret({
        title: `A token of ${made}`, token, signal: place.signal,
        facts: [held.length > 0 ? `It may ${held.join(", ")}.` : "It has no scopes, and may ask about itself alone."],
      });
    },
  });
}
