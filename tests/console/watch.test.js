import assert from "node:assert/strict";
import { test } from "node:test";

import { OperationError } from "../../platform/city_hall/console/client/index.js";
import { Watch } from "../../platform/city_hall/console/model/watch.js";

/** A clock whose time passes by hand, and a platform that answers what it is told. */
function watching(answers, every = 1000) {
  const timers = [];
  const signals = [];
  const clock = {
    now: () => 5000,
    after: (wait, then) => {
      const timer = { wait, then };
      timers.push(timer);
      return () => timers.includes(timer) && timers.splice(timers.indexOf(timer), 1);
    },
  };
  const ask = async (signal) => {
    signals.push(signal);
    const answer = await answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const watch = new Watch(ask, { every, clock, random: () => 0.5 });
  const seen = [];
  watch.changed.listen((now) => seen.push(now));
  const pass = async () => {
    timers.shift().then();
    await settle();
  };
  return { watch, timers, signals, seen, pass };
}

const settle = () => new Promise((resolve) => setTimeout(resolve));
const away = (more = {}) => new OperationError("away", { code: "unreachable", retryable: true, ...more });

test("it asks at once and then again and again", async () => {
  const { watch, timers, pass } = watching([1, 2]);
  watch.start();
  await settle();
  assert.deepEqual([watch.seen.value, watch.seen.at, watch.seen.nextAt], [1, 5000, 6000]);
  assert.equal(timers[0].wait, 1000);
  await pass();
  assert.equal(watch.seen.value, 2);
});

test("what was known stays while nothing answers, and goes when something new is heard", async () => {
  const { watch, pass } = watching([1, away(), away(), 2]);
  watch.start();
  await settle();
  await pass();
  assert.deepEqual([watch.seen.value, watch.seen.error.code], [1, "unreachable"]);
  await pass();
  await pass();
  assert.deepEqual([watch.seen.value, watch.seen.error], [2, null]);
});

test("after failures it waits longer, never long, and as long as it is told", async () => {
  const { watch, timers, pass } = watching([...Array.from({ length: 12 }, () => away()), away({ retryAfter: 9 })]);
  const waits = [];
  watch.start();
  await settle();
  for (let n = 0; n < 12; n += 1) {
    waits.push(timers[0].wait);
    await pass();
  }
  assert.ok(waits[0] < 1000);
  assert.equal(Math.max(...waits), 5000);
  assert.equal(timers[0].wait, 9000);
});

test("a refusal that will not pass is not asked for more often than an answer", async () => {
  const { watch, timers } = watching([new OperationError("no", { code: "forbidden" })], 60_000);
  watch.start();
  await settle();
  assert.equal(timers[0].wait, 60_000);
});

test("asked anew, what was under way is called off and its answer dropped", async () => {
  let answerLate;
  const late = new Promise((resolve) => (answerLate = resolve));
  const { watch, signals, seen } = watching([late, "new"]);
  watch.start();
  watch.now();
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, false]);
  await settle();
  answerLate("old");
  await settle();
  assert.equal(watch.seen.value, "new");
  assert.ok(!seen.some(({ value }) => value === "old"));
});

test("stopped, it asks nothing and hears nothing; started again, it goes on", async () => {
  const { watch, timers, signals } = watching([1, 2]);
  watch.start();
  watch.stop();
  assert.equal(signals[0].aborted, true);
  await settle();
  await watch.now();
  assert.deepEqual([watch.seen.value, timers.length, signals.length], [null, 0, 1]);
  watch.start();
  await settle();
  assert.equal(watch.seen.value, 2);
});
