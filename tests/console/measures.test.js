import assert from "node:assert/strict";
import { test } from "node:test";

import { grouped, since, size, span } from "../../platform/city_hall/console/model/measures.js";

test("sizes are told in the unit that fits", () => {
  assert.deepEqual([0, 999, 1000, 1_250_000].map(size), ["0 B", "999 B", "1.0 kB", "1.3 MB"]);
});

test("spans are told in their largest unit, and the next while that says much", () => {
  const told = [0, 59, 60, 119, 3600, 4800, 86_400, 100_000, 900_000].map(span);
  assert.deepEqual(told, ["0 s", "59 s", "1 min", "1 min", "1 h", "1 h 20 min", "1 d", "1 d 3 h", "10 d"]);
});

test("moments are told from now", () => {
  const now = Date.parse("2026-11-20T10:00:00Z");
  assert.equal(since(now - 500, now), "just now");
  assert.equal(since(now - 180_000, now), "3 min ago");
  assert.equal(since(now + 180_000, now), "in 3 min");
  assert.equal(since(NaN, now), "");
});

test("large numbers are grouped", () => {
  assert.equal(grouped(1234567), "1,234,567");
});
