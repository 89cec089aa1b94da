/** The way in: one click for oneself, a name for those who want to be somebody else. */

import { cityMap } from "./city_map.js";
import { h } from "./elements.js";

/** @import { Desk } from "../model/session.js" */

const NAME = "[A-Za-z0-9._@\\-][A-Za-z0-9._~@\\-]{0,127}";
const DEFAULT_NAME = "you";

/**
 * @param {Desk} desk
 * @param {string} sentence why one is here again; "" on a first visit
 * @param {(userId: string) => Promise<void>} enter
 */
export function signInPage(desk, sentence, enter) {
  const trouble = h("p", { class: "trouble", role: "alert" }, sentence);
  return h("main", { class: "sign-in" },
    h("div", { class: "way-in" },
      h("p", { class: "brand" }, "Smart City"),
      h("h1", {}, "One door to every agent."),
      h("p", { class: "lead" },
        "Ask the guide, or go straight to the pillar that knows. What is said here is kept in order, " +
        "and nothing is lost when the connection is."),
      trouble,
      desk.offered ? signInForm(trouble, enter) : closedDoor(),
      h("p", { class: "aside" }, "Do you look after this platform? ",
        h("a", { href: "#/channels" }, "Operate it with a token"), ".")),
    cityMap(desk.channels));
}

/**
 * @param {HTMLElement} trouble
 * @param {(userId: string) => Promise<void>} enter
 */
function signInForm(trouble, enter) {
  const name = h("input", {
    name: "user_id", value: DEFAULT_NAME, pattern: NAME, required: true, maxlength: 128,
    autocomplete: "username", autocapitalize: "none", spellcheck: "false",
    title: "Letters, digits and . _ ~ @ -",
  });
  const button = h("button", { class: "primary", type: "submit" }, "Sign in");
  /** @param {Event} event */
  const onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    trouble.textContent = "";
    await enter(name.value).catch((error) => {
      trouble.textContent = error.message;
      button.disabled = false;
    });
  };
  return h("form", { onsubmit },
    button,
    h("details", {}, h("summary", {}, "as somebody else"), h("label", {}, "Name", name)));
}

function closedDoor() {
  return h("p", { class: "closed" },
    "This platform can be reached from other machines, so it does not hand out sessions to whoever asks. " +
    "One-click sign-in is there when it is bound to this machine alone.");
}

/**
 * The platform cannot even be asked.
 *
 * @param {string} sentence
 * @param {() => void} tryAgain
 */
export function noAnswerPage(sentence, tryAgain) {
  return h("main", { class: "sign-in lonely" },
    h("div", { class: "way-in" },
      h("p", { class: "brand" }, "Smart City"),
      h("h1", {}, "Nobody is at the door."),
      h("p", { class: "trouble", role: "alert" }, sentence),
      h("button", { class: "primary", onclick: tryAgain }, "Try again")));
}
