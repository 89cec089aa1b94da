/**
 * One visit to the city, from the open door to the way out: the connection, the page, and what a reload
 * keeps.
 */

import { City } from "../client/city.js";
import { realClock } from "../client/clock.js";
import { Keepsake } from "../client/keepsake.js";
import * as session from "../client/session.js";
import { ConsolePage } from "./console_page.js";

/** @import { State } from "../client/connection.js" */
/** @import { Desk } from "../client/session.js" */
/** @import { Announcer } from "./announcer.js" */

const SESSION_OVER = 4501;
const STILL_OPEN = "You have left, but the platform could not be told: your session is still open.";

/**
 * @param {Desk} desk
 * @param {{ userId: string, leave: (sentence: string) => void, announcer: Announcer }} way  `userId`: who has just signed in; ""
 *   when the session was there before, and only the welcome will tell whose it is
 */
export function visit({ channels }, { userId, leave, announcer }) {
  const ended = new AbortController();
  const keepsake = new Keepsake(sessionStorage);
  const found = keepsake.read();
  const kept = userId && found?.userId !== userId ? null : found;
  const city = new City(channels, { openSocket, clock: realClock, random: Math.random }, kept ?? {});
  const keep = () => keepsake.write(city.keep());

  /** @param {string} sentence */
  const end = (sentence) => {
    ended.abort();
    leave(sentence);
  };
  const signOut = async () => {
    city.connection.stop();
    keepsake.clear();
    const isClosed = await session.close().then(() => true, () => false);
    end(isClosed ? "You are signed out." : STILL_OPEN);
  };
  const staySignedIn = async () => {
    await session.open(userId);
    city.connection.renew();
  };
  /** @param {State} state */
  const follow = (state) => {
    if (state.phase === "connected") userId = state.welcome.user_id;
    if (state.phase === "connected" && kept && kept.userId !== userId) startAfresh(keepsake, ended);
    if (state.phase !== "ended" || state.verdict.code !== SESSION_OVER) return;
    keep();
    end(state.verdict.sentence);
  };

  city.connection.changed.listen(follow);
  addEventListener("pagehide", keep, { signal: ended.signal });
  document.addEventListener("visibilitychange", keep, { signal: ended.signal });
  const page = new ConsolePage({ city, channels, announcer, signal: ended.signal, signOut, staySignedIn });
  city.connection.start(kept?.connectionId);
  return page;
}

/**
 * Another tab has signed in as somebody else: what this one kept is not theirs to see.
 *
 * @param {Keepsake} keepsake
 * @param {AbortController} ended
 */
function startAfresh(keepsake, ended) {
  ended.abort();
  keepsake.clear();
  location.reload();
}

/** @param {string} resume */
function openSocket(resume) {
  const address = new URL("/ws", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (resume) address.searchParams.set("resume", resume);
  return new WebSocket(address);
}
