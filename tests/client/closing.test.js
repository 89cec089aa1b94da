import assert from "node:assert/strict";
import { test } from "node:test";

import { judge } from "../../platform/city_hall/console/client/closing.js";

test("1000 and 4500 to 4999 mean: do not come back", () => {
  for (const code of [1000, 4500, 4501, 4503, 4999]) assert.equal(judge(code).comesBack, false, String(code));
});

test("every other code means: come back", () => {
  for (const code of [1001, 1006, 1009, 1011, 1012, 1013, 3000, 4008, 4009, 4010, 4029, 4499]) {
    assert.equal(judge(code).comesBack, true, String(code));
  }
});

test("a draining instance is left for another at once", () => {
  assert.equal(judge(1012).waits, "moment");
});

test("the time to stay away stands in the reason, rounded up", () => {
  assert.equal(judge(1013, "at capacity; retry_after=2.0001").waits, 2001);
  assert.equal(judge(1013, "at capacity").waits, "jitter");
});

test("a page whose connection another tab took over comes back as somebody new", () => {
  assert.equal(judge(4010).resumes, false);
  assert.equal(judge(1006).resumes, true);
});

test("what was sent may be to blame only where the code says so", () => {
  assert.deepEqual([1002, 1003, 1006, 1007, 1008, 1009, 1012, 4008].map((code) => judge(code).blame),
    ["invalid_message", "invalid_message", "", "invalid_message", "forbidden", "too_large", "", ""]);
});

test("a code without words of its own is named", () => {
  assert.match(judge(4321).sentence, /4321/);
});

test("nobody is sent away for longer than ten minutes", () => {
  assert.equal(judge(1013, "retry_after=99999").waits, 600_000);
});
