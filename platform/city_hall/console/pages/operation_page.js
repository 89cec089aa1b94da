/** One operation: what it does, who may call it, its arguments to fill in, and what it answers. */

import { OperationError, newKey, operationUrl } from "../client/index.js";
import { whoMay } from "../model/catalogue.js";
import { asCurl } from "../model/curl.js";
import { copyButton } from "../ui/copy.js";
import { confirmed } from "../ui/dialog.js";
import { h } from "../ui/elements.js";
import { live } from "../ui/live.js";
import { Prose } from "../ui/prose.js";
import { ArgumentForm } from "./argument_form.js";
import { nothing, sheet } from "./place.js";

/** @import { Operation } from "../model/catalogue.js" */
/** @import { Watch } from "../model/watch.js" */
/** @import { Place } from "./place.js" */

/**
 * @param {Place} place
 * @param {Watch<Operation[]>} watch
 * @param {string} name "post_office.list_channels"
 */
export function operationPage(place, watch, name) {
  const content = h("div", { class: "operation" });
  const body = live(place, watch, content, (operations) => {
    const found = operations.find((operation) => operation.name === name);
    content.replaceChildren(...(found ? parts(place, found) : [nothing("There is no such operation.")]));
  });
  return sheet({ title: name, about: "", back: { href: "#/operations", label: "Explorer" } }, body);
}

/**
 * @param {Place} place
 * @param {Operation} operation
 */
function parts(place, operation) {
  const prose = new Prose();
  prose.show([operation.summary, operation.description].filter(Boolean).join("\n\n"));
  const isAllowed = !operation.scope || place.access.has(operation.scope);
  const form = new ArgumentForm(operation);
  const answer = h("section", { class: "result", "aria-label": "Answer", "aria-live": "polite" });
  const look = operation.isDestructive ? "danger" : "primary small";
  const button = h("button", { class: look, type: "submit", disabled: !isAllowed }, "Call it");
  /** @param {Event} event */
  const onsubmit = (event) => {
    event.preventDefault();
    const args = form.read();
    if (args) attempt(place, operation, args, { form, answer, button });
  };
  return [
    prose.element,
    h("dl", { class: "facts-line" },
      h("dt", {}, "Who may call it"), h("dd", {}, whoMay(operation)), ...fact("Address", `POST ${operation.path}`),
      ...fact("As a tool", operation.name.replace(".", "_")),
      h("dt", {}, "Given up after"), h("dd", {}, `${operation.deadlineSeconds} s`)),
    h("form", { class: "try", onsubmit }, form.element,
      h("div", { class: "row" },
        isAllowed ? null : h("p", { class: "hint" }, `Your token lacks ${operation.scope}.`), button)),
    answer,
  ];
}

/**
 * @param {string} name
 * @param {string} value
 */
function fact(name, value) {
  return [h("dt", {}, name), h("dd", {}, h("code", {}, value))];
}

/**
 * @param {Place} place
 * @param {Operation} operation
 * @param {object} args
 * @param {{ form: ArgumentForm, answer: HTMLElement, button: HTMLButtonElement }} page
 */
async function attempt(place, operation, args, { form, answer, button }) {
  if (operation.isDestructive && !await isSure(place, operation)) return;
  const key = operation.takesKey && !("key" in args) ? newKey() : "";
  const curl = asCurl(operationUrl(location.origin, operation.name), args, key);
  button.disabled = true;
  const began = performance.now();
  try {
    const result = await place.access.call(operation.name, args, { signal: place.signal, ...(key ? { key } : {}) });
    answer.replaceChildren(...told("Done", "good", result, began, curl));
  } catch (error) {
    if (place.signal.aborted) return;
    const refusal = error instanceof OperationError ? error : new OperationError(String(error), { code: "internal" });
    form.tellWrong(refusal.errors);
    answer.replaceChildren(...told(`Refused: ${refusal.code}`, "bad", shownOf(refusal), began, curl));
  } finally {
    button.disabled = false;
  }
}

/** A refusal with all that it says. @param {OperationError} refusal */
function shownOf({ code, message, retryable, retryAfter, errors }) {
  const more = { ...(retryAfter ? { retry_after: retryAfter } : {}), ...(errors.length > 0 ? { errors } : {}) };
  return { code, message, retryable, ...more };
}

/**
 * @param {Place} place
 * @param {Operation} operation
 */
function isSure({ signal }, { name, summary }) {
  return confirmed({ title: `Call ${name}?`, text: summary, action: "Call it", signal });
}

/**
 * @param {string} headline
 * @param {"good" | "bad"} tone
 * @param {object} value
 * @param {number} began
 * @param {string} curl
 */
function told(headline, tone, value, began, curl) {
  const body = h("pre", { tabindex: "0" }, JSON.stringify(value, null, 2));
  const command = h("pre", { tabindex: "0" }, curl);
  return [
    h("div", { class: "section-head" },
      h("h2", { "data-tone": tone }, headline),
      h("span", { class: "hint" }, `${Math.round(performance.now() - began)} ms`)),
    h("div", { class: "payload" }, copyButton(body), body),
    h("details", {}, h("summary", {}, "The same as a command"),
      h("div", { class: "payload" }, copyButton(command, "Copy"), command)),
  ];
}
