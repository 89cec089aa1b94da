/** A dialog in which something is made: a form, the call that makes it, and what the platform says against it. */

import { OperationError } from "../client/index.js";
import { openDialog } from "../ui/dialog.js";
import { h } from "../ui/elements.js";
import { showWrong } from "../ui/fields.js";

/** @import { Child } from "../ui/elements.js" */

/**
 * @template T
 * @param {{
 *   title: string, action: string, fields: Child[], signal: AbortSignal, make: () => Promise<T>,
 *   made: (value: T) => void,
 * }} parts  `made` is told once the dialog is gone
 */
export function makingDialog({ title, action, fields, signal, make, made }) {
  const trouble = h("p", { class: "wrong", role: "alert" });
  const button = h("button", { type: "submit", class: "primary small" }, action);

  /** @param {Event} event */
  const onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    trouble.textContent = "";
    try {
      const value = await make();
      dialog.close();
      made(value);
    } catch (error) {
      trouble.textContent = toldBeside(form, error);
    } finally {
      button.disabled = false;
    }
  };
  const form = h("form", { class: "fields", onsubmit }, ...fields, trouble,
    h("footer", {}, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), button));
  const dialog = openDialog({ title, signal, content: [form], isWide: true });
}

/**
 * What is left to say once each wrong field has been told at its place.
 *
 * @param {HTMLElement} form
 * @param {unknown} error
 */
function toldBeside(form, error) {
  if (!(error instanceof OperationError)) return String(error);
  const rest = showWrong(form, error.errors);
  return error.errors.length > 0 && rest.length === 0 ? "" : error.message;
}
