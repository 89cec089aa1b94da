/** A dialog in which something is made: a form, the call that makes it, and what the platform says against it. */

import { openDialog } from "../ui/dialog.js";
import { h } from "../ui/elements.js";
import { tellRefusal } from "../ui/fields.js";

/** @import { Child } from "../ui/elements.js" */

/**
 * What opens such a dialog, at the head of a page.
 *
 * @param {string} label
 * @param {() => void} onclick
 */
export function makeButton(label, onclick) {
  return h("button", { class: "primary small", type: "button", onclick }, label);
}

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
      trouble.textContent = tellRefusal(form, error);
    } finally {
      button.disabled = false;
    }
  };
  const form = h("form", { class: "fields", onsubmit }, ...fields, trouble,
    h("footer", {}, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), button));
  const dialog = openDialog({ title, signal, content: [form], isWide: true });
}
