import assert from "node:assert/strict";
import { test } from "node:test";

import { isFound, operationsOf, whoMay } from "../../platform/city_hall/console/model/catalogue.js";

const post = (more) => ({
  summary: "Does it.", description: "First line,\nsecond line.\n\nNext.", "x-scope": "post_office.observe",
  "x-deadline-seconds": 10, "x-read-only": true, "x-destructive": false, security: [{ bearer: [] }],
  requestBody: { content: { "application/json": { schema: {}, example: { limit: 3 } } } }, ...more,
});
const DOCUMENT = {
  paths: {
    "/soa/traffic-cop/get_session": { post: post() },
    "/soa/post-office/publish": {
      post: post({
        "x-read-only": false, security: [{ bearer: [] }, { session: [] }],
        requestBody: {
          content: {
            "application/json": {
              schema: { properties: { key: { $ref: "#/components/schemas/Key" } } },
              examples: { one: { value: { key: "k" } } },
            },
          },
        },
      }),
    },
    "/health": { get: {} },
  },
  components: { schemas: { Key: { type: "string", maxLength: 64 } } },
};

test("the operations of the document are read, by service", () => {
  const operations = operationsOf(DOCUMENT);
  assert.deepEqual(operations.map(({ name }) => name), ["post_office.publish", "traffic_cop.get_session"]);
  const [publish, session] = operations;
  assert.equal(session.description, "First line, second line.\n\nNext.");
  assert.deepEqual([session.scope, session.isReadOnly, session.deadlineSeconds], ["post_office.observe", true, 10]);
  assert.deepEqual([publish.takesKey, session.takesKey], [true, false]);
  assert.deepEqual([publish.example, session.example], [{ key: "k" }, { limit: 3 }]);
});

test("what a schema refers to stands in its place", () => {
  const [publish] = operationsOf(DOCUMENT);
  assert.deepEqual(publish.schema.properties.key, { type: "string", maxLength: 64 });
});

test("who may call it is told in words", () => {
  const [publish, session] = operationsOf(DOCUMENT);
  assert.equal(whoMay(session), "A token with post_office.observe");
  assert.match(whoMay(publish), /or a session/);
  assert.equal(whoMay({ ...session, scope: "" }), "Any token");
});

test("operations are found by all the words that are given", () => {
  const [publish] = operationsOf(DOCUMENT);
  assert.equal(isFound(publish, ""), true);
  assert.equal(isFound(publish, "PUBLISH does"), true);
  assert.equal(isFound(publish, "publish session"), false);
});
