/**
 * Questions and forms above the page, in the browser's own modal dialog: it keeps the focus inside, Escape closes
 * it, and the focus goes back to where it was.
 */

import { h } from "./elements.js";
import { icon } from "./icons.js";

/** @import { Child } from "./elements.js" */

/**
 * @param {{ title: string, content: Child[], signal?: AbortSignal, isWide?: boolean }} parts  `signal` closes it
 * @returns {HTMLDialogElement} open; its `close` event tells the end
 */
export function openDialog({ title, content, signal, isWide = false }) {
  const heading = h("h2", { id: "dialog-title" }, title);
  const dialog = h("dialog", { class: isWide ? "dialog wide" : "dialog", "aria-labelledby": "dialog-title" },
    h("header", {}, heading,
      h("button", { class: "icon-button", type: "button", "aria-label": "Close", onclick: () => dialog.close() },
        icon("close"))),
    ...content);
  const close = () => dialog.close();
  signal?.addEventListener("abort", close);
  dialog.addEventListener("close", () => {
    signal?.removeEventListener("abort", close);
    dialog.remove();
  });
  (document.getElementById("app") ?? document.body).append(dialog);
  dialog.showModal();
  dialog.querySelector(/** @type {"input"} */ ("[data-first], input, textarea, select"))?.focus();
  return dialog;
}

/**
 * Asks before something is done that cannot be undone.
 *
 * @param {{ title: string, text: string, action: string, signal?: AbortSignal }} question
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, text, action, signal }) {
  return new Promise((resolve) => {
    let answer = false;
    const agree = () => {
      answer = true;
      dialog.close();
    };
    const dialog = openDialog({
      title,
      signal,
      content: [
        h("p", { class: "question-text" }, text),
        h("footer", {},
          h("button", { type: "button", "data-first": true, onclick: () => dialog.close() }, "Keep it as it is"),
          h("button", { type: "button", class: "danger", onclick: agree }, action)),
      ],
    });
    dialog.addEventListener("close", () => resolve(answer));
  });
}
