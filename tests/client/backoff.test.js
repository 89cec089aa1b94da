import assert from "node:assert/strict";
import { test } from "node:test";

import { LAST_CEILING_MS, ceiling, delayBefore } from "../../platform/city_hall/console/client/backoff.js";

test("the ceiling doubles from half a second to twenty", () => {
  const ceilings = [1, 2, 3, 4, 5, 6, 7, 100].map(ceiling);
  assert.deepEqual(ceilings, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
});

test("the wait is anything between nothing and the ceiling", () => {
  assert.equal(delayBefore(3, () => 0), 0);
  assert.equal(delayBefore(3, () => 0.5), 1000);
  assert.ok(delayBefore(50, () => 0.999_999) <= LAST_CEILING_MS);
});
