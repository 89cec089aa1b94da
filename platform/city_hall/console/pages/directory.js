/** The operator's pages: what they are called, what they need, and who draws them. */

import { channelsPage } from "./channels_page.js";
import { connectionsPage } from "./connections_page.js";
import { operationsPage } from "./operations_page.js";
import { queuesPage } from "./queues_page.js";
import { sessionsPage } from "./sessions_page.js";
import { tokensPage } from "./tokens_page.js";
import { trafficPage } from "./traffic_page.js";

/** @import { DrawPage } from "./place.js" */
/** @import { IconName } from "../ui/icons.js" */

/**
 * @typedef {{
 *   page: string, title: string, icon: IconName, scope: string, key: string, draw: DrawPage,
 * }} Entry  `scope`: without it there is nothing to see, "" when any will do; `key` follows a g
 */

/** @type {Entry[]} */
export const DIRECTORY = [
  {
    page: "channels", title: "Channels", icon: "channels", scope: "post_office.observe", key: "c",
    draw: channelsPage,
  },
  {
    page: "connections", title: "Connections", icon: "connections", scope: "post_office.observe", key: "n",
    draw: connectionsPage,
  },
  {
    page: "queues", title: "Queues", icon: "queues", scope: "post_office.observe", key: "u",
    draw: queuesPage,
  },
  {
    page: "sessions", title: "Sessions", icon: "sessions", scope: "traffic_cop.sessions", key: "s",
    draw: sessionsPage,
  },
  {
    page: "tokens", title: "Service tokens", icon: "key", scope: "traffic_cop.admin", key: "k",
    draw: tokensPage,
  },
  { page: "traffic", title: "Traffic", icon: "traffic", scope: "traffic_cop.observe", key: "t", draw: trafficPage },
  { page: "operations", title: "Explorer", icon: "operations", scope: "", key: "o", draw: operationsPage },
];

/** @param {string} page */
export function entryOf(page) {
  return DIRECTORY.find((entry) => entry.page === page) ?? null;
}
