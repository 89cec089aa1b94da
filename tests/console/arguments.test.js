import assert from "node:assert/strict";
import { test } from "node:test";

import { argumentsFrom, fieldsOf, shownIn } from "../../platform/city_hall/console/model/arguments.js";

const optional = (schema) => ({ anyOf: [schema, { type: "null" }], default: null, description: "told outside" });
const SCHEMA = {
  properties: {
    limit: { type: "integer", minimum: 1, maximum: 500, default: 50 },
    channel: { type: "string", pattern: "^[a-z]+$", description: "its name" },
    mode: { enum: ["log", "inbox"], type: "string" },
    ticket: { type: "boolean", default: false },
    scopes: { type: "array", items: { enum: ["a", "b"], type: "string" } },
    message: { type: "object", additionalProperties: true },
    since: optional({ type: "string" }),
    ttl: optional({ type: "integer", minimum: 1 }),
  },
  required: ["channel", "scopes"],
};
const field = (name) => fieldsOf(SCHEMA).find((one) => one.name === name);

test("every argument gets a field of its kind, what must be given first", () => {
  const fields = fieldsOf(SCHEMA);
  assert.deepEqual(fields.slice(0, 2).map(({ name }) => name), ["channel", "scopes"]);
  assert.deepEqual(Object.fromEntries(fields.map(({ name, kind }) => [name, kind])), {
    channel: "text", scopes: "choices", limit: "number", mode: "choice", ticket: "boolean", message: "json",
    since: "text", ttl: "number",
  });
});

test("a field tells what the schema does", () => {
  assert.deepEqual([field("limit").minimum, field("limit").maximum, field("limit").placeholder], [1, 500, "50"]);
  assert.deepEqual([field("channel").isRequired, field("channel").description], [true, "its name"]);
  assert.deepEqual(field("mode").choices, ["log", "inbox"]);
  assert.deepEqual([field("since").placeholder, field("since").description], ["", "told outside"]);
  assert.deepEqual(field("ttl").minimum, 1);
});

test("what is filled in becomes arguments of the right kinds, and what is empty none", () => {
  const filled = {
    channel: "guide", scopes: ["a"], limit: "3", mode: "log", ticket: "true", message: '{"n": [1]}', since: "",
  };
  const { args, wrong } = argumentsFrom(fieldsOf(SCHEMA), ({ name }) => filled[name] ?? "");
  assert.deepEqual(args, {
    channel: "guide", scopes: ["a"], limit: 3, mode: "log", ticket: true, message: { n: [1] },
  });
  assert.deepEqual(wrong, []);
});

test("a list that must be given is given, also when nothing is ticked", () => {
  const { args } = argumentsFrom(fieldsOf(SCHEMA), ({ kind }) => (kind === "choices" ? [] : ""));
  assert.deepEqual(args, { scopes: [] });
});

test("what is no JSON is told with its field", () => {
  const { wrong } = argumentsFrom(fieldsOf(SCHEMA), ({ name }) => (name === "message" ? "{" : ""));
  assert.deepEqual(wrong.map((one) => one.field), ["message"]);
});

test("arguments are shown in their fields as they were filled in", () => {
  const fields = fieldsOf(SCHEMA);
  const args = { channel: "guide", scopes: ["b"], limit: 7, ticket: false, message: { n: 1 } };
  const shown = (each) => shownIn(each, args[each.name]);
  assert.deepEqual(argumentsFrom(fields, shown).args, args);
});
