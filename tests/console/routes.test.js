import assert from "node:assert/strict";
import { test } from "node:test";

import { addressOf, routeOf } from "../../platform/city_hall/console/model/routes.js";

test("an address leads back to what it was made of", () => {
  for (const route of [
    { page: "queues", rest: "", query: {} },
    { page: "channels", rest: "pillar:content", query: {} },
    { page: "channels", rest: "a b/c?d#e%", query: {} },
    { page: "connections", rest: "", query: { user: "~a&b=c", channel: "guide" } },
  ]) {
    assert.deepEqual(routeOf(addressOf(route.page, route.rest, route.query)), route);
  }
});

test("channels stay readable, and empty values stay out", () => {
  assert.equal(addressOf("channels", "pillar:content"), "#/channels/pillar:content");
  assert.equal(addressOf("connections", "", { user: "", channel: "" }), "#/connections");
});

test("an address that cannot be read names no page", () => {
  for (const hash of ["", "#", "#/", "#/%E0%A4%A"]) assert.equal(routeOf(hash).page, "");
});
