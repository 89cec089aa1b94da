/** Who is connected: where, since when, to what, how far behind; and the way out for those who must go. */

import { grouped, since, size } from "../model/measures.js";
import { addressOf } from "../model/routes.js";
import { Watch } from "../model/watch.js";
import { h } from "../ui/elements.js";
import { live } from "../ui/live.js";
import { Table } from "../ui/table.js";
import { afterAsking } from "./acting.js";
import { settled, userFilter } from "./filters.js";
import { nothing, sheet } from "./place.js";

/** @import { Place } from "./place.js" */

/**
 * @typedef {{
 *   connection_id: string, user_id: string, instance_id: string, connected_at: string, last_heartbeat: string,
 *   channels: string[], channel_count: number, consumes: string[], unsent_bytes: number, is_lagging?: boolean, address?: string,
 * }} Connection
 * @typedef {{ total: number, connections: Connection[], silent_instances: string[] }} Listed
 */

const EVERY_MS = 3000;
const MOST = 200;
const MANY_BYTES = 64 * 1024;

/** @param {Place} place */
export function connectionsPage(place) {
  const { query } = place.route;
  const user = userFilter(query.user ?? "", "alice, or ~realm");
  const channel = channelFilter(place, query.channel ?? "");
  const count = h("p", { class: "count", role: "status" });
  const silent = h("p", { class: "warning", hidden: true });
  const table = connectionTable(place, () => watch.now());
  const asked = () => given({ user_id: user.value.trim(), channel: channel.value, limit: MOST });

  /** @type {Watch<Listed>} */
  const watch = new Watch(
    (signal) => place.access.call("post_office.list_connections", asked(), { signal }),
    { every: EVERY_MS, clock: place.clock });

  const changed = settled(() => {
    if (!user.checkValidity()) return;
    history.replaceState(null, "", addressOf("connections", "", { user: user.value.trim(), channel: channel.value }));
    watch.now();
  }, place.signal);
  user.addEventListener("input", changed);
  channel.addEventListener("change", changed);
  const body = live(place, watch, h("div", {}, silent, table.element), ({ total, connections, silent_instances }) => {
    table.show(connections);
    count.textContent = total > connections.length ? `${connections.length} of ${grouped(total)}, the newest`
      : `${grouped(total)} ${total === 1 ? "connection" : "connections"}`;
    silent.hidden = silent_instances.length === 0;
    silent.textContent = `${silent_instances.join(", ")} did not answer: connections there are missing.`;
  });
  return sheet({ title: "Connections", about: "Everybody who is here, on all instances" },
    h("form", { class: "toolbar", role: "search", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
      h("label", {}, "User", user), h("label", {}, "Channel", channel), count),
    body);
}

/**
 * @param {Place} place
 * @param {() => void} renew
 */
function connectionTable(place, renew) {
  const ago = (/** @type {string} */ moment) => since(Date.parse(moment), place.clock.now());
  /** @type {Table<Connection>} */
  const table = new Table({
    caption: "Connections, the newest first",
    key: ({ connection_id }) => connection_id,
    empty: nothing("Nobody is here.", h("p", {}, "Whoever opens a connection stands here at once.")),
    columns: [
      { title: "User", node: who },
      { title: "Where", kind: "line", node: where },
      { title: "Since", kind: "line", text: ({ connected_at }) => ago(connected_at) },
      { title: "Last heartbeat", kind: "line", text: ({ last_heartbeat }) => ago(last_heartbeat) },
      { title: "Channels", text: channelsInWords },
      {
        title: "Unsent", kind: "number", text: ({ unsent_bytes, is_lagging }) => `${size(unsent_bytes)}${is_lagging ? ", lags" : ""}`,
        tone: ({ unsent_bytes, is_lagging }) => (is_lagging || unsent_bytes > MANY_BYTES ? "trying" : ""),
      },
      { title: "Disconnect", kind: "actions", node: (now) => disconnectButton(place, now, renew) },
    ],
  });
  return table;
}

/** @param {() => Connection} now */
function who(now) {
  const { user_id, connection_id } = now();
  return h("span", { class: "twofold" },
    h("a", { href: addressOf("connections", "", { user: user_id }) }, user_id), h("code", {}, connection_id));
}

/** On which instance, and from which address where one may know it. @param {() => Connection} now */
function where(now) {
  const { instance_id, address } = now();
  return h("span", { class: "twofold" }, instance_id, address ? h("code", {}, `from ${address}`) : null);
}

/** @param {Connection} connection */
function channelsInWords({ channels, channel_count, consumes }) {
  const more = channel_count - channels.length;
  const listens = [...channels, more > 0 ? `${more} more` : ""].filter(Boolean).join(", ");
  const serves = consumes.length > 0 ? `serves ${consumes.join(", ")}` : "";
  return [listens, serves].filter(Boolean).join("; ") || "–";
}

/**
 * @param {Place} place
 * @param {() => Connection} now
 * @param {() => void} renew
 */
function disconnectButton(place, now, renew) {
  const { connection_id, user_id } = now();
  const isAllowed = place.access.has("post_office.admin");
  const question = {
    title: `Disconnect ${user_id}?`, action: "Disconnect",
    text: `The socket ${connection_id} of ${user_id} is closed with code 1000, so its client stays away. ` +
      "Whatever was logged for it stays.",
  };
  const onclick = () => afterAsking(place, question, async () => {
    await place.access.call("post_office.disconnect", { connection_id });
    return `${user_id} is disconnected.`;
  }, renew);
  return h("button", {
    class: "small", type: "button", onclick, disabled: !isAllowed, "aria-label": `Disconnect ${user_id}`,
    title: isAllowed ? undefined : "This needs the scope post_office.admin",
  }, "Disconnect");
}

/**
 * @param {Place} place
 * @param {string} value
 */
function channelFilter(place, value) {
  const select = h("select", { name: "channel" }, h("option", { value: "" }, "any"));
  const offer = (/** @type {string} */ name) =>
    select.append(h("option", { value: name, selected: name === value }, name));
  if (value) offer(value);
  place.access.call("post_office.list_channels", {}, { signal: place.signal }).then(({ channels }) => {
    for (const { channel } of channels) if (channel !== value) offer(channel);
  }, () => {});
  return select;
}

/** Without what is empty. @param {Record<string, unknown>} args */
function given(args) {
  return Object.fromEntries(Object.entries(args).filter(([, value]) => value !== ""));
}
