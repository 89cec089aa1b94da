/**
 * One visit to the city, from the open door to the way out: the connection, the page, and what a reload
 * keeps.
 */

import { City } from "../client/index.js";
import { Keepsake } from "../model/keepsake.js";
import * as session from "../model/session.js";
import { Talk, answersIn } from "../model/talk.js";
import { ChatPage } from "./chat_page.js";

/** @import { State } from "../client/index.js" */
/** @import { Desk } from "../model/session.js" */
/** @import { Announcer } from "./announcer.js" */

const SESSION_OVER = 4501;
const STILL_OPEN = "You have left, but the platform could not be told: your session is still open.";

/**
 * @param {Desk} desk
 * @param {{ userId: string, leave: (sentence: string) => void, announcer: Announcer }} way  `userId`: who has just
 *   signed in; "" when the session was there before, and only the welcome will tell whose it is
 */
export function visit({ channels }, { userId, leave, announcer }) {
  const ended = new AbortController();
  const keepsake = new Keepsake(sessionStorage);
  const found = keepsake.read();
  const kept = userId && found?.userId !== userId ? null : found;
  const city = new City(undefined, kept ? { past: kept.past, answers: answersIn(kept) } : {});
  const talk = new Talk(city, channels, kept ?? {});
  const keep = () => keepsake.write(talk.keep());

  /** @param {string} sentence */
  const end = (sentence) => {
    ended.abort();
    city.close();
    leave(sentence);
  };
  const signOut = async () => {
    city.end();
    keepsake.clear();
    const isClosed = await session.close().then(() => true, () => false);
    end(isClosed ? "You are signed out." : STILL_OPEN);
  };
  const staySignedIn = async () => {
    await session.open(userId);
    city.renew();
  };
  /** @param {State} state */
  const follow = (state) => {
    if (state.phase === "connected") arrived(state.welcome.user_id);
    if (state.phase !== "ended" || state.verdict.code !== SESSION_OVER) return;
    keep();
    end(state.verdict.sentence);
  };
  /** @param {string} who */
  const arrived = (who) => {
    const expected = userId || kept?.userId || who;
    userId = who;
    if (who === expected) return;
    ended.abort();
    startAfresh(keepsake, city);
  };

  city.on("state", follow);
  addEventListener("pagehide", keep, { signal: ended.signal });
  document.addEventListener("visibilitychange", keep, { signal: ended.signal });
  return new ChatPage({ talk, channels, announcer, signal: ended.signal, signOut, staySignedIn });
}

/**
 * Another tab has signed in as somebody else: what stands here is not theirs to see, nor what waits here theirs to
 * send.
 *
 * @param {Keepsake} keepsake
 * @param {City} city
 */
function startAfresh(keepsake, city) {
  city.close();
  keepsake.clear();
  location.reload();
}
