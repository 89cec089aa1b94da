import assert from "node:assert/strict";
import { test } from "node:test";

import {
  countsOf, duration, refusalsOf, rowsOf, summed,
} from "../../platform/city_hall/console/model/traffic.js";

const TIMES = { p50: [], p95: [], p99: [] };
const QUIET = { requests: [1, 0], refusals: {}, latency_ms: TIMES, total: { count: 1, refusals: {}, p50_ms: 2 } };
const BUSY = {
  requests: [3, 4], refusals: { forbidden: [0, 1], rate_limited: [2, 2] }, latency_ms: TIMES,
  total: { count: 7, refusals: { forbidden: 1, rate_limited: 4 }, p50_ms: 3, p95_ms: 9, p99_ms: 20 },
};

test("columns are added up step by step", () => {
  assert.deepEqual(summed([[1, 2], [3, 4]], 2), [4, 6]);
  assert.deepEqual(summed([], 2), [0, 0]);
  assert.deepEqual(refusalsOf(BUSY, 2), [2, 3]);
});

test("operations count requests, channels messages", () => {
  assert.deepEqual(countsOf(BUSY), [3, 4]);
  assert.deepEqual(countsOf({ ...QUIET, requests: undefined, messages: [9] }), [9]);
});

test("the busiest stands first, with its refusals by code, the most frequent first", () => {
  const [busy, quiet] = rowsOf({ quiet: QUIET, busy: BUSY });
  assert.deepEqual([busy.name, busy.count, busy.refused, busy.codes], ["busy", 7, 5, "rate_limited 4, forbidden 1"]);
  assert.deepEqual([quiet.name, quiet.refused, quiet.p95], ["quiet", 0, undefined]);
});

test("times are told with as many digits as matter", () => {
  const told = [undefined, null, 0.1234, 4.213, 18.2, 123.4, 1234.5].map(duration);
  assert.deepEqual(told, ["–", "–", "0.12 ms", "4.2 ms", "18 ms", "123 ms", "1.23 s"]);
});
