/** Which rights a new session gets on which channels: the usual ones, or just those that are ticked. */

import { h } from "../ui/elements.js";
import { tickBox } from "../ui/fields.js";

const RIGHTS = ["subscribe", "send", "history", "publish"];
const USUAL = ["subscribe", "send", "history"];
const PATTERNS = ["guide", "pillar:*"];

/** @returns {{ element: HTMLElement, value: () => Record<string, string[]> | undefined }} undefined: the usual */
export function grantsField() {
  const usual = h("input", { type: "radio", name: "grants", value: "usual", checked: true });
  const chosen = h("input", { type: "radio", name: "grants", value: "chosen" });
  const lines = [...PATTERNS.map((pattern) => line(pattern)), line("")];
  const table = h("div", { class: "grants", hidden: true }, ...lines.map(({ element }) => element));
  const show = () => (table.hidden = !chosen.checked);
  usual.addEventListener("change", show);
  chosen.addEventListener("change", show);
  const element = h("fieldset", {},
    h("legend", {}, "What it may"),
    tickBox("The usual: subscribe, send and read history on the agent channels", usual),
    tickBox("Just this:", chosen),
    table, h("p", { class: "wrong", "data-wrong-for": "channels" }));
  const value = () => {
    if (usual.checked) return undefined;
    const found = lines.map(({ read }) => read()).filter(([pattern, rights]) => pattern !== "" && rights.length > 0);
    return Object.fromEntries(found);
  };
  return { element, value };
}

/** @param {string} pattern "" for one that is typed */
function line(pattern) {
  const boxes = RIGHTS.map((right) =>
    h("input", { type: "checkbox", value: right, checked: pattern !== "" && USUAL.includes(right) }));
  const name = pattern ? null : h("input", {
    type: "text", placeholder: "pillar:content", "aria-label": "Another channel, or the beginning of several with *",
    autocapitalize: "none", spellcheck: "false",
  });
  const element = h("div", { class: "grant", role: "group", "aria-label": pattern || "another channel" },
    name ?? h("code", {}, pattern), ...boxes.map((box) => tickBox(box.value, box)));
  /** @returns {[string, string[]]} */
  const read = () => [
    name ? name.value.trim() : pattern, boxes.filter(({ checked }) => checked).map(({ value }) => value),
  ];
  return { element, read };
}
