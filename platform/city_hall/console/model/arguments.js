/**
 * The arguments of an operation as fields that somebody fills in, made from its schema, and what was filled in as
 * arguments again. What no simple field can take is written as JSON.
 */

/** @import { Schema } from "./catalogue.js" */

/**
 * @typedef {{
 *   name: string, kind: "text" | "number" | "boolean" | "choice" | "choices" | "json", isRequired: boolean,
 *   description: string, choices: string[], pattern: string, minimum?: number, maximum?: number,
 *   placeholder: string,
 * }} Field
 * @typedef {{ args: Record<string, unknown>, wrong: { field: string, message: string }[] }} Filled
 */

/** @param {Schema} schema @returns {Field[]} what must be given first */
export function fieldsOf(schema) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([name, property]) =>
    fieldOf(name, property, required.has(name)));
  return fields.sort((one, other) => Number(other.isRequired) - Number(one.isRequired));
}

/**
 * @param {Field[]} fields
 * @param {(field: Field) => string | string[]} read what stands in a field; "" and [] for nothing
 * @returns {Filled}
 */
export function argumentsFrom(fields, read) {
  /** @type {Filled} */
  const filled = { args: {}, wrong: [] };
  for (const field of fields) {
    const text = read(field);
    if (text.length === 0 && !(field.isRequired && field.kind === "choices")) continue;
    try {
      filled.args[field.name] = valueOf(field, text);
    } catch {
      filled.wrong.push({ field: field.name, message: "This is not JSON." });
    }
  }
  return filled;
}

/**
 * What a field shows for an argument; a kind that cannot show it gets its JSON.
 *
 * @param {Field} field
 * @param {unknown} value
 * @returns {string | string[]}
 */
export function shownIn({ kind }, value) {
  if (value === undefined || value === null) return kind === "choices" ? [] : "";
  if (kind === "choices") return Array.isArray(value) ? value.map(String) : [];
  if (kind === "json") return JSON.stringify(value, null, 2);
  return String(value);
}

/**
 * @param {Field} field
 * @param {string | string[]} text
 */
function valueOf({ kind }, text) {
  if (typeof text !== "string") return text;
  if (kind === "number") return Number(text);
  if (kind === "boolean") return text === "true";
  return kind === "json" ? JSON.parse(text) : text;
}

/**
 * @param {string} name
 * @param {Schema} property
 * @param {boolean} isRequired
 * @returns {Field}
 */
function fieldOf(name, property, isRequired) {
  const schema = withoutNull(property);
  const choices = schema.enum ?? (schema.items?.enum && schema.type === "array" ? schema.items.enum : []);
  return {
    name, kind: kindOf(schema), isRequired, choices: choices.map(String), pattern: schema.pattern ?? "",
    description: property.description ?? schema.description ?? "", minimum: schema.minimum,
    maximum: schema.maximum, placeholder: defaultIn(property),
  };
}

/** @param {Schema} schema @returns {Field["kind"]} */
function kindOf(schema) {
  if (schema.enum) return "choice";
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "integer" || schema.type === "number") return "number";
  if (schema.type === "array" && schema.items?.enum) return "choices";
  return schema.type === "string" ? "text" : "json";
}

/** What may be left out, or null, is the same here. @param {Schema} schema */
function withoutNull(schema) {
  const others = (schema.anyOf ?? []).filter((/** @type {Schema} */ one) => one.type !== "null");
  return others.length === 1 ? { ...schema, ...others[0] } : schema;
}

/** @param {Schema} property */
function defaultIn(property) {
  const value = property.default;
  return value === undefined || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);
}
