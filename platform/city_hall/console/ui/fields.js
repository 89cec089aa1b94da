/** Labelled fields of forms, with a hint and the platform's own word when it refuses what stands in one. */

import { OperationError } from "../client/index.js";
import { sentenceOf } from "../model/words.js";
import { h } from "./elements.js";

/** @import { WrongField } from "../client/index.js" */

let count = 0;

/**
 * @param {string} label
 * @param {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} control its name is the argument's
 * @param {string} [hint]
 */
export function field(label, control, hint = "") {
  count += 1;
  const id = control.id || `field-${count}`;
  control.id = id;
  const described = h("p", { class: "hint", id: `${id}-hint` }, hint);
  const wrong = h("p", { class: "wrong", id: `${id}-wrong`, "data-wrong-for": control.name });
  control.setAttribute("aria-describedby", `${hint ? `${id}-hint ` : ""}${id}-wrong`);
  return h("div", { class: "field-row" }, h("label", { for: id }, label), control, hint ? described : null, wrong);
}

/**
 * A box to tick, with its label beside it.
 *
 * @param {string} label
 * @param {HTMLInputElement} box
 */
export function tickBox(label, box) {
  return h("label", { class: "tick" }, box, h("span", {}, label));
}

/**
 * Shows what a refusal says at the fields that it names.
 *
 * @param {HTMLElement} form
 * @param {unknown} error
 * @returns {string} what is left to say beside them
 */
export function tellRefusal(form, error) {
  const errors = error instanceof OperationError ? error.errors : [];
  const rest = showWrong(form, errors);
  return errors.length > 0 && rest.length === 0 ? "" : sentenceOf(error);
}

/**
 * Shows each error at its field, and gives back those that belong to none.
 *
 * @param {HTMLElement} form
 * @param {WrongField[]} errors
 */
export function showWrong(form, errors) {
  const places = [...form.querySelectorAll(/** @type {"p"} */ ("[data-wrong-for]"))];
  for (const place of places) place.textContent = "";
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  return errors.filter(({ field: path, message }) => {
    const name = path.split(".")[0] ?? "";
    const place = places.find((one) => one.dataset.wrongFor === name);
    if (!place) return true;
    place.textContent = message;
    form.querySelector(`[name="${CSS.escape(name)}"]`)?.setAttribute("aria-invalid", "true");
    return false;
  });
}
