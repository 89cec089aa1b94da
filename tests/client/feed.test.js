import assert from "node:assert/strict";
import { test } from "node:test";

import { Feed } from "../../platform/city_hall/console/client/feed.js";

const at = (offset, epoch = "e") => ({ offset, epoch });

function listener() {
  const told = [];
  return { told, tell: ({ news, channel: _, ...rest }) => told.push([news, rest]) };
}

/** A feed that one listener hears live, at offset 40. */
function live(...more) {
  const feed = new Feed("guide");
  const first = listener();
  feed.listen(first, null);
  for (const [other, since] of more) feed.listen(other, since);
  feed.askAs("1");
  feed.joined(at(40));
  return { feed, first };
}

const names = (hearers, known) => hearers.map((hearer) => Object.keys(known).find((name) => known[name] === hearer));

test("who listens later from now hears at once where the others stand", () => {
  const { feed } = live();
  feed.take(at(41));
  const second = listener();
  feed.listen(second, null);
  assert.deepEqual(second.told, [["joined", { position: at(41) }]]);
  assert.equal(feed.needsAsking, false);
});

test("who listens from further back has the log asked for, and nobody hears anything twice", () => {
  const { feed, first } = live();
  const second = listener();
  feed.listen(second, at(30));
  assert.equal(feed.needsAsking, true);
  assert.deepEqual(feed.askAs("2"), at(30));
  assert.deepEqual(names(feed.take(at(41)), { first, second }), ["first"]);
  feed.joined({ ...at(30), recovered: true, missed: 11 });
  assert.deepEqual(second.told, [["joined", { position: at(30), recovered: true, missed: 11 }]]);
  const heard = [];
  for (let offset = 31; offset <= 42; offset += 1) heard.push(names(feed.take(at(offset)), { first, second }).join());
  assert.deepEqual(heard, [...Array(11).fill("second"), "first,second"]);
});

test("who listens from now while others catch up joins when they have", () => {
  const { feed } = live();
  const second = listener();
  feed.listen(second, at(38));
  feed.askAs("2");
  const third = listener();
  feed.joined({ ...at(38), recovered: true, missed: 2 });
  feed.listen(third, null);
  feed.take(at(39));
  assert.deepEqual(third.told, []);
  assert.deepEqual(names(feed.take(at(40)), { second, third }), ["second"]);
  assert.deepEqual(third.told, [["joined", { position: at(40) }]]);
});

test("after a loss the log is asked for from the furthest back", () => {
  const behind = listener();
  const { feed } = live();
  feed.listen(behind, at(35));
  feed.lost();
  assert.equal(feed.needsAsking, true);
  assert.deepEqual(feed.askAs("2"), at(35));
});

test("only who stood where nothing can be recovered is told of a gap; the rest is asked for again", () => {
  const { feed, first } = live();
  const behind = listener();
  feed.listen(behind, at(3));
  feed.askAs("2");
  feed.lost();
  feed.askAs("3");
  feed.joined({ ...at(60), recovered: false, reason: "trimmed" });
  assert.deepEqual(behind.told, [["joined", { position: at(60), recovered: false, missed: 0, reason: "trimmed" }]]);
  assert.equal(first.told.length, 1);
  assert.equal(feed.needsAsking, true);
  assert.deepEqual(feed.askAs("4"), at(40));
  feed.joined({ ...at(40), recovered: true, missed: 20 });
  assert.deepEqual(first.told.at(-1), ["joined", { position: at(40), recovered: true, missed: 20 }]);
  assert.deepEqual(names(feed.take(at(60)), { first, behind }), []);
});

test("a position beyond the log's end is told as lost, and joins where the log stands", () => {
  const { feed } = live();
  const dreamer = listener();
  feed.listen(dreamer, at(99));
  assert.deepEqual(feed.askAs("2"), at(40));
  feed.joined({ ...at(40), recovered: true, missed: 0 });
  assert.deepEqual(dreamer.told, [["joined", { position: at(40), recovered: false, missed: 0, reason: "future" }]]);
});

test("a position that came after the log was asked for may lie beyond what the platform saw then", () => {
  const { feed } = live();
  feed.listen(listener(), at(38));
  feed.askAs("2");
  const later = listener();
  feed.listen(later, at(45));
  feed.joined({ ...at(38), recovered: true, missed: 2 });
  assert.deepEqual([later.told, feed.needsAsking], [[], true]);
  feed.askAs("3");
  feed.joined({ ...at(38), recovered: true, missed: 8 });
  assert.deepEqual(later.told, [["joined", { position: at(45), recovered: true, missed: 1 }]]);
});

test("what is missing is asked for once, and only then told to be lost", () => {
  const { feed, first } = live();
  assert.deepEqual(feed.take(at(43)), []);
  assert.deepEqual(feed.askAs("2"), at(40));
  feed.joined({ ...at(40), recovered: true, missed: 2 });
  assert.deepEqual(names(feed.take(at(43)), { first }), ["first"]);
  assert.deepEqual(first.told.at(-1), ["reset", { position: at(42), reason: "skipped" }]);
});

test("the same offset in another epoch is another publication", () => {
  const { feed, first } = live();
  feed.take(at(41));
  assert.deepEqual(names(feed.take(at(41, "f")), { first }), ["first"]);
  assert.deepEqual(first.told.at(-1), ["reset", { position: at(40, "f"), reason: "diverged" }]);
  assert.deepEqual(feed.take(at(41, "f")), []);
});

test("a reset moves everybody who stands before it", () => {
  const { feed, first } = live();
  feed.reset(at(60, "f"), "trimmed");
  assert.deepEqual(first.told.at(-1), ["reset", { position: at(60, "f"), reason: "trimmed" }]);
  assert.deepEqual(names(feed.take(at(61, "f")), { first }), ["first"]);
});

test("between a subscribe and its answer nothing is taken, since all of it comes again", () => {
  const feed = new Feed("guide");
  feed.listen(listener(), at(40));
  feed.askAs("1");
  assert.deepEqual(feed.take(at(41)), []);
});
