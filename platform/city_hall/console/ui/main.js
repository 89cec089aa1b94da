/**
 * Where the page begins: finds out whether one is signed in, and shows the page that the address names: the way
 * in, a conversation, or one of the operator's.
 */

import { call, realClock } from "../client/index.js";
import { Access } from "../model/access.js";
import * as session from "../model/session.js";
import { sentenceOf } from "../model/words.js";
import { show } from "./elements.js";
import { Shell } from "./shell.js";
import { noAnswerPage, signInPage } from "./sign_in.js";
import { visit } from "./visit.js";

/** @import { Desk } from "../model/session.js" */
/** @import { ChatPage } from "./chat_page.js" */

const KNOCK_MS = 3000;
const access = new Access({
  storage: sessionStorage,
  ask: (token, name, args, options) => call(location.origin, token, name, args, options),
  clock: realClock,
  random: Math.random,
});
const shell = new Shell(access);
/** @type {ChatPage | null} the conversation, while one is signed in */
let chat = null;
/** @type {Desk | null} */
let desk = null;
/** Why one is not signed in (any more). */
let reason = "";
let knocking = 0;

/** Looks what this platform offers, and goes on from there. */
async function arrive() {
  clearTimeout(knocking);
  try {
    desk = await session.look();
    if (desk.has_session && !reason) enter(desk, "");
    showPage();
  } catch (error) {
    waitAtTheDoor(sentenceOf(error));
  }
}

/**
 * Looks again in a while, or when somebody is impatient; the page stays as it is meanwhile.
 *
 * @param {string} sentence
 */
function waitAtTheDoor(sentence) {
  clearTimeout(knocking);
  knocking = setTimeout(arrive, KNOCK_MS);
  if (!document.querySelector(".lonely")) show(noAnswerPage(sentence, arrive));
}

/**
 * @param {Desk} at
 * @param {string} userId
 */
function enter(at, userId) {
  chat = visit(at, { userId, leave, announcer: shell.announcer });
  shell.showTalk(chat);
}

/** @param {string} sentence */
function leave(sentence) {
  chat = null;
  reason = sentence;
  shell.showTalk(null);
  if (!shell.isOperating) arrive();
}

function showPage() {
  if (shell.isOperating) {
    chat?.hide();
    show(shell.element);
    shell.openPage();
  } else if (chat) {
    show(shell.element);
    shell.openChat(chat);
  } else if (desk) {
    signIn(desk);
  }
}

/** @param {Desk} at */
function signIn(at) {
  document.title = "Smart City";
  show(signInPage(at, reason, async (userId) => {
    await session.open(userId);
    reason = "";
    enter(at, userId);
    showPage();
  }));
}

addEventListener("hashchange", showPage);
access.start();
arrive();
