/** Every operation of the platform, as its own document tells of them; one of them has a page of its own. */

import { OperationError } from "../client/index.js";
import { isFound, operationsOf } from "../model/catalogue.js";
import { addressOf } from "../model/routes.js";
import { Watch } from "../model/watch.js";
import { h } from "../ui/elements.js";
import { live } from "../ui/live.js";
import { Prose } from "../ui/prose.js";
import { operationPage } from "./operation_page.js";
import { nothing, sheet } from "./place.js";

/** @import { Operation } from "../model/catalogue.js" */
/** @import { Place } from "./place.js" */

const DEADLINE_MS = 10_000;

/** @param {Place} place */
export function operationsPage(place) {
  const watch = new Watch((signal) => catalogue(place, signal), { every: 0, clock: place.clock });
  return place.route.rest ? operationPage(place, watch, place.route.rest) : list(place, watch);
}

/**
 * @param {Place} place
 * @param {Watch<Operation[]>} watch
 */
function list(place, watch) {
  const filter = h("input", { type: "search", name: "filter", placeholder: "publish", "data-filter": true });
  const content = h("div", { class: "catalogue" });
  const count = h("p", { class: "count", role: "status" });
  const draw = (/** @type {Operation[]} */ operations) => {
    const found = operations.filter((operation) => isFound(operation, filter.value.trim()));
    const services = [...new Set(found.map(({ service }) => service))];
    count.textContent = `${found.length} of ${operations.length} operations`;
    content.replaceChildren(...services.map((service) => h("section", {}, h("h2", {}, service),
      h("ul", {}, ...found.filter((one) => one.service === service).map((one) => line(place, one))))));
    if (found.length === 0) content.append(nothing("There is no such operation."));
  };
  filter.addEventListener("input", () => watch.seen.value && draw(watch.seen.value));
  return sheet({ title: "Explorer", about: "Every operation, by HTTP, as a tool, or here" },
    h("form", { class: "toolbar", role: "search", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
      h("label", {}, "Find", filter), count),
    live(place, watch, content, draw));
}

/**
 * @param {Place} place
 * @param {Operation} operation
 */
function line(place, { name, operation, summary, scope, isReadOnly, isDestructive }) {
  const words = new Prose();
  words.show(summary);
  const isMissing = scope !== "" && !place.access.has(scope);
  return h("li", {},
    h("a", { href: addressOf("operations", name) }, operation),
    words.element,
    h("span", { class: "marks" },
      isDestructive ? h("span", { class: "mark", "data-tone": "bad" }, "takes away") : null,
      isReadOnly ? h("span", { class: "mark" }, "reads") : null,
      isMissing ? h("span", { class: "mark", "data-tone": "trying" }, `needs ${scope}`) : null));
}

/**
 * @param {Place} place
 * @param {AbortSignal} signal
 * @returns {Promise<Operation[]>}
 */
async function catalogue({ access }, signal) {
  const response = await reach(access.token, signal);
  if (response.ok) return operationsOf(await response.json());
  const problem = await response.json().catch(() => null);
  const error = new OperationError(problem?.detail ?? `The platform answered with status ${response.status}.`, {
    code: problem?.code ?? "no_answer", status: response.status, retryable: response.status >= 500,
  });
  access.noticed(error);
  throw error;
}

/**
 * @param {string} token
 * @param {AbortSignal} signal
 */
async function reach(token, signal) {
  try {
    return await fetch("/openapi.json", {
      headers: { authorization: `Bearer ${token}` }, credentials: "omit",
      signal: AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]),
    });
  } catch {
    signal.throwIfAborted();
    throw new OperationError("The platform does not answer. Is it running?",
      { code: "unreachable", retryable: true });
  }
}
