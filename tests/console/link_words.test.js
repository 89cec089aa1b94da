import assert from "node:assert/strict";
import { test } from "node:test";

import { judge } from "../../platform/city_hall/console/client/closing.js";
import { describe } from "../../platform/city_hall/console/model/link_words.js";

test("while waiting it counts down, names the attempt and offers to hurry", () => {
  const state = { phase: "waiting", attempt: 2, until: 10_000, verdict: judge(1006) };
  const { word, sentence, canHurry } = describe(state, 7_200);
  assert.deepEqual([word, canHurry], ["Reconnecting", true]);
  assert.match(sentence, /in 3 s \(attempt 2\)/);
  assert.match(describe(state, 11_000).sentence, /in 0 s/);
});

test("signed out is said by that word, other ends are not", () => {
  assert.equal(describe({ phase: "ended", verdict: judge(4501) }, 0).word, "Signed out");
  const refused = describe({ phase: "ended", verdict: judge(4503) }, 0);
  assert.deepEqual([refused.word, refused.canHurry], ["Closed", true]);
});

test("the first connection needs no explanation", () => {
  assert.equal(describe({ phase: "connecting", attempt: 0 }, 0).sentence, "");
  assert.match(describe({ phase: "connecting", attempt: 3 }, 0).sentence, /attempt 3/);
});
