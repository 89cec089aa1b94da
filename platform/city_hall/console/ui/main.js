/** Where the page begins: finds out whether one is signed in, and shows the way in or the console. */

import { City } from "../client/city.js";
import { realClock } from "../client/clock.js";
import * as session from "../client/session.js";
import { ConsolePage } from "./console_page.js";
import { h } from "./elements.js";
import { signInPage } from "./sign_in.js";

/** @import { Desk } from "../client/session.js" */

const app = /** @type {HTMLElement} */ (document.getElementById("app"));

/** Looks what this platform offers, and goes on from there. @param {string} sentence why one is here (again) */
async function arrive(sentence = "") {
  try {
    const desk = await session.look();
    if (desk.has_session && !sentence) enter(desk);
    else signIn(desk, sentence);
  } catch (error) {
    show(noAnswer(error instanceof Error ? error.message : String(error)));
  }
}

/**
 * @param {Desk} desk
 * @param {string} sentence
 */
function signIn(desk, sentence) {
  document.title = "Smart City";
  show(signInPage(desk, sentence, async (userId) => {
    await session.open(userId);
    enter(desk);
  }));
}

/** @param {Desk} desk */
function enter({ channels }) {
  const visit = new AbortController();
  const city = new City(channels, { openSocket, clock: realClock, random: Math.random });
  let userId = "";
  const leave = (/** @type {string} */ sentence) => {
    visit.abort();
    arrive(sentence);
  };
  city.connection.changed.listen((state) => {
    if (state.phase === "connected") userId = state.welcome.user_id;
    if (state.phase === "ended" && state.verdict.code === 4501) leave(state.verdict.sentence);
  });
  const signOut = async () => {
    city.connection.stop();
    await session.close().catch(() => {});
    leave("You are signed out.");
  };
  const staySignedIn = async () => {
    await session.open(userId);
    city.connection.renew();
  };
  const page = new ConsolePage({ city, channels, signal: visit.signal, signOut, staySignedIn });
  show(page.element);
  page.arrive();
  city.connection.start();
}

/** @param {string} resume */
function openSocket(resume) {
  const address = new URL("/ws", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (resume) address.searchParams.set("resume", resume);
  return new WebSocket(address);
}

/** @param {string} sentence */
function noAnswer(sentence) {
  return h("main", { class: "sign-in lonely" },
    h("div", { class: "way-in" },
      h("p", { class: "brand" }, "Smart City"),
      h("h1", {}, "Nobody is at the door."),
      h("p", { class: "trouble", role: "alert" }, sentence),
      h("button", { class: "primary", onclick: () => arrive() }, "Try again")));
}

/** @param {Element} page */
function show(page) {
  app.replaceChildren(page);
}

arrive();
