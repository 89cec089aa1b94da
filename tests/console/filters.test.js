import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { settled } from "../../platform/city_hall/console/pages/filters.js";

test("a filter works once somebody has stopped typing, and not after the page was left", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const left = new AbortController();
  let done = 0;
  const typed = settled(() => (done += 1), left.signal);
  typed();
  typed();
  mock.timers.tick(1000);
  assert.equal(done, 1);
  typed();
  left.abort();
  mock.timers.tick(1000);
  assert.equal(done, 1);
  mock.timers.reset();
});
