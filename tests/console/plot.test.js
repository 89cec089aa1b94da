import assert from "node:assert/strict";
import { test } from "node:test";

import { areaOf, greatest, lineOf, roundAbove, stepAt, xOf } from "../../platform/city_hall/console/model/plot.js";

const FRAME = { width: 100, height: 50, top: 10 };

test("the scale ends with a round number that nothing is above", () => {
  assert.deepEqual([0, 1, 1.2, 7, 11, 99, 101, 2049, 0.03].map(roundAbove), [1, 1, 2, 8, 20, 100, 200, 3000, 0.03]);
  for (let value = 0.013; value < 1e6; value *= 1.7) assert.ok(roundAbove(value) >= value);
});

test("the greatest value is that of all columns, and nothing counts as nothing", () => {
  assert.equal(greatest([[1, null, 7], [3]]), 7);
  assert.equal(greatest([]), 0);
});

test("a line goes from edge to edge and breaks where nothing is known", () => {
  assert.equal(lineOf([0, 5, 10], FRAME), "M0 50L50 25L100 0");
  assert.equal(lineOf([0, null, 10], FRAME), "M0 50M100 0");
  assert.equal(lineOf([], FRAME), "");
});

test("an area stands on the ground", () => {
  assert.equal(areaOf([0, 10], FRAME), "M0 50L100 0L100 50L0 50Z");
  assert.equal(areaOf([], FRAME), "");
});

test("every step is found again where it stands, and beside the chart the nearest", () => {
  for (let step = 0; step < 61; step += 1) assert.equal(stepAt(xOf(step, 61, 437), 61, 437), step);
  assert.deepEqual([stepAt(-5, 61, 437), stepAt(9999, 61, 437)], [0, 60]);
  assert.equal(stepAt(10, 1, 100), 0);
});
