/** The arguments of an operation: a field for each, made from the schema, or all of them as JSON. */

import { argumentsFrom, fieldsOf, shownIn } from "../model/arguments.js";
import { h } from "../ui/elements.js";
import { field as labelled, showWrong, tickBox } from "../ui/fields.js";

/** @import { WrongField } from "../client/index.js" */
/** @import { Field } from "../model/arguments.js" */
/** @import { Operation } from "../model/catalogue.js" */

/**
 * @typedef {{
 *   element: HTMLElement, read: () => string | string[], fill: (value: string | string[]) => void,
 * }} Control
 */

export class ArgumentForm {
  #fields;
  /** @type {Map<Field, Control>} */
  #controls;
  #json = h("textarea", { name: "arguments", spellcheck: "false", rows: 6 });
  #asFields;
  #asJson;
  #switch = h("button", { type: "button", class: "small", onclick: () => this.#turn() }, "Write JSON");
  #trouble = h("p", { class: "wrong", role: "alert" });
  element;

  /** @param {Operation} operation */
  constructor({ schema, example }) {
    this.#fields = fieldsOf(schema);
    this.#controls = new Map(this.#fields.map((each) => [each, control(each)]));
    this.#asFields = h("div", { class: "fields" }, ...[...this.#controls.values()].map(({ element }) => element),
      this.#fields.length === 0 && h("p", { class: "hint" }, "It takes no arguments."));
    this.#asJson = h("div", { hidden: true }, labelled("Arguments as JSON", this.#json));
    const fill = () => this.fill(example);
    this.element = h("div", { class: "arguments" },
      h("div", { class: "section-head" }, h("h2", {}, "Arguments"),
        ...(this.#fields.length === 0 ? []
          : [h("button", { type: "button", class: "small", onclick: fill }, "Fill in the example"), this.#switch])),
      this.#asFields, this.#asJson, this.#trouble);
  }

  /** What is filled in; null when it cannot be read, which has then been told. @returns {object | null} */
  read() {
    this.#trouble.textContent = "";
    if (!this.#asJson.hidden) return this.#readJson();
    const { args, wrong } = argumentsFrom(this.#fields, (each) => this.#controls.get(each)?.read() ?? "");
    this.tellWrong(wrong);
    return wrong.length > 0 ? null : args;
  }

  /** @param {object} args */
  fill(args) {
    this.#json.value = JSON.stringify(args, null, 2);
    const named = /** @type {Record<string, unknown>} */ (args);
    for (const [each, { fill }] of this.#controls) fill(shownIn(each, named[each.name]));
  }

  /** Tells errors at their fields. @param {WrongField[]} errors @returns {WrongField[]} the rest */
  tellWrong(errors) {
    return this.#asJson.hidden ? showWrong(this.#asFields, errors) : errors;
  }

  #readJson() {
    try {
      const value = JSON.parse(this.#json.value.trim() || "{}");
      if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
    } catch {
      // told below, as every other text that is no object
    }
    this.#trouble.textContent = "This is not a JSON object.";
    return null;
  }

  #turn() {
    const isToJson = this.#asJson.hidden;
    const args = this.read();
    if (args === null) return;
    this.fill(args);
    this.#asJson.hidden = !isToJson;
    this.#asFields.hidden = isToJson;
    this.#switch.textContent = isToJson ? "Fill in fields" : "Write JSON";
  }
}

/** @param {Field} field @returns {Control} */
function control(field) {
  if (field.kind === "choices") return boxes(field);
  const input = inputFor(field);
  const { name, isRequired, description } = field;
  return {
    element: labelled(isRequired ? name : `${name} (optional)`, input, description),
    read: () => input.value,
    fill: (value) => (input.value = String(value)),
  };
}

/** @param {Field} field */
function inputFor({ name, kind, choices, isRequired, minimum, maximum, placeholder }) {
  if (kind === "choice" || kind === "boolean") {
    const offered = kind === "boolean" ? ["true", "false"] : choices;
    const none = isRequired ? [] : [h("option", { value: "" }, placeholder ? `${placeholder} (default)` : "–")];
    return h("select", { name }, ...none, ...offered.map((choice) => h("option", { value: choice }, choice)));
  }
  if (kind === "json") {
    const shown = placeholder || "{ }";
    return h("textarea", { name, required: isRequired, rows: 3, spellcheck: "false", placeholder: shown });
  }
  return h("input", {
    name, type: kind === "number" ? "number" : "text", required: isRequired, min: minimum, max: maximum, placeholder,
    step: kind === "number" ? "any" : undefined, autocomplete: "off", autocapitalize: "none", spellcheck: "false",
  });
}

/** @param {Field} field @returns {Control} */
function boxes({ name, choices, description }) {
  const all = choices.map((choice) => h("input", { type: "checkbox", value: choice }));
  return {
    element: h("fieldset", {}, h("legend", {}, name), description && h("p", { class: "hint" }, description),
      h("div", { class: "scope-boxes" }, ...all.map((box) => tickBox(box.value, box))),
      h("p", { class: "wrong", "data-wrong-for": name })),
    read: () => all.filter(({ checked }) => checked).map(({ value }) => value),
    fill: (value) => all.forEach((box) => (box.checked = value.includes(box.value))),
  };
}
