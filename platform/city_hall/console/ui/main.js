/** Where the page begins: finds out whether one is signed in, and shows the way in or the console. */

import * as session from "../client/session.js";
import { show } from "./elements.js";
import { noAnswerPage, signInPage } from "./sign_in.js";
import { visit } from "./visit.js";

/** @import { Desk } from "../client/session.js" */

/**
 * Looks what this platform offers, and goes on from there.
 *
 * @param {string} sentence why one is here (again)
 */
async function arrive(sentence = "") {
  try {
    const desk = await session.look();
    if (desk.has_session && !sentence) visit(desk, { userId: "", leave: arrive });
    else signIn(desk, sentence);
  } catch (error) {
    show(noAnswerPage(error instanceof Error ? error.message : String(error), () => arrive()));
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
    visit(desk, { userId, leave: arrive });
  }));
}

arrive();
