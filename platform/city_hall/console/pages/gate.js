/** What stands in a page's place while one may not see it: where to find a token, and which scope is missing. */

import { h } from "../ui/elements.js";
import { field } from "../ui/fields.js";
import { sheet } from "./place.js";

/** @import { Access, AccessState } from "../model/access.js" */
/** @import { Entry } from "./directory.js" */

/**
 * @param {Access} access
 * @param {Entry} entry
 */
export function gate(access, entry) {
  const { state } = access;
  if (state.phase === "open") return lacking(access, entry, state);
  const body = state.phase === "asking" ? asking(access, state) : form(access, entry, state.sentence);
  return sheet({ title: entry.title, about: "For whoever looks after this platform" }, body);
}

/**
 * @param {Access} access
 * @param {Extract<AccessState, { phase: "asking" }>} state
 */
function asking(access, { sentence }) {
  return h("div", { class: "note", role: "status" },
    h("p", { class: "headline" }, "Asking whose token this is…"),
    sentence ? h("p", {}, sentence) : null,
    h("button", { class: "small", onclick: () => access.forget() }, "Use another token"));
}

/**
 * @param {Access} access
 * @param {Entry} entry
 * @param {string} sentence
 */
function form(access, { scope }, sentence) {
  const token = h("input", {
    name: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false",
    placeholder: "op_… or svc_…", "data-first": true,
  });
  /** @param {Event} event */
  const onsubmit = (event) => {
    event.preventDefault();
    access.use(token.value);
  };
  return h("div", { class: "gate" },
    h("p", { class: "headline" }, "This needs a token."),
    h("p", { class: "trouble", role: "alert" }, sentence),
    h("form", { onsubmit }, field("Token", token), h("button", { class: "primary", type: "submit" }, "Open")),
    h("div", { class: "where" },
      h("p", {}, "Where the platform runs, the operator's token is in the file"),
      h("pre", { tabindex: "0" }, ".smart-city/operator-token"),
      h("p", {}, "Or make one that may do just this:"),
      h("pre", { tabindex: "0" }, commandFor(scope))),
    h("p", { class: "hint" },
      "It stays in this tab and goes with it. It is sent to this platform alone, in a header, and never stands in " +
      "an address."));
}

/**
 * @param {Access} access
 * @param {Entry} entry
 * @param {Extract<AccessState, { phase: "open" }>} state
 */
function lacking(access, { title, scope }, { identity }) {
  return sheet({ title, about: "For whoever looks after this platform" },
    h("div", { class: "gate" },
      h("p", { class: "headline" }, `This needs the scope ${scope || "of any operation"}.`),
      h("p", {}, `Your token is one of ${identity.id}. It has `,
        ...(identity.scopes.length > 0 ? scopesOf(identity.scopes) : ["no scopes"]), "."),
      h("p", {}, "One that has it is made with"),
      h("pre", { tabindex: "0" }, commandFor(scope)),
      h("button", { onclick: () => access.forget() }, "Use another token")));
}

/** @param {string[]} scopes */
function scopesOf(scopes) {
  return scopes.flatMap((scope, index) => [index > 0 ? ", " : null, h("code", {}, scope)]);
}

/** @param {string} scope */
function commandFor(scope) {
  return `smart-city token create --realm console --scope ${scope || "post_office.observe"}`;
}
