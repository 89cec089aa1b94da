import assert from "node:assert/strict";
import { test } from "node:test";

import { Answers, MOST_ANSWERS } from "../../platform/city_hall/console/client/answers.js";
import { response } from "./world.js";

const start = (more = {}) => response({ stream: "start", part: 0, ...more });
const delta = (part, message, more = {}) =>
  response({ stream: "delta", part, payload: { message }, ...more });
const end = (message, more = {}) => response({ stream: "end", payload: { message }, ...more });
const error = (more = {}) =>
  response({ stream: "error", error: { code: "internal", message: "died" }, ...more });

/** The answer after these frames. */
function after(...frames) {
  const answers = new Answers();
  let answer = null;
  for (const frame of frames) answer = answers.apply(frame) ?? answer;
  return answer;
}

test("an answer in one piece is done at once", () => {
  const answer = after(response({ payload: { message: "Hello." } }));
  assert.deepEqual([answer.state, answer.text, answer.question], ["done", "Hello.", "q-1"]);
});

test("parts are put together in order, and the end has the last word", () => {
  const writing = after(start(), delta(1, "Hel"), delta(2, "lo"));
  assert.deepEqual([writing.state, writing.text], ["writing", "Hello"]);
  const done = after(start(), delta(1, "Hel"), end("Hello, world."));
  assert.deepEqual([done.state, done.text], ["done", "Hello, world."]);
});

test("a snapshot replaces what was there, and deltas up to it are dropped", () => {
  const snapshot = delta(5, "Hello, wor", { snapshot: true });
  const answer = after(start(), delta(1, "He"), snapshot, delta(4, "or"), delta(6, "ld"));
  assert.equal(answer.text, "Hello, world");
});

test("a page that joins late begins with the snapshot", () => {
  const answer = after(delta(7, "Hello", { snapshot: true }), delta(8, "!"));
  assert.deepEqual([answer.text, answer.hasGap], ["Hello!", false]);
});

test("a missing part is noticed, nothing is shown beyond it, and a snapshot or the end mend it", () => {
  const torn = [start(), delta(1, "Hel"), delta(3, "wor"), delta(4, "ld")];
  assert.deepEqual([after(...torn).hasGap, after(...torn).text], [true, "Hel"]);
  const mended = after(...torn, delta(5, "Hello, world", { snapshot: true }), delta(6, "!"));
  assert.deepEqual([mended.hasGap, mended.text], [false, "Hello, world!"]);
  assert.deepEqual([after(...torn, end("Hello, world")).hasGap], [false]);
});

test("text only grows within an edition", () => {
  assert.equal(after(start(), delta(1, "Hel"), end("Hello")).edition, 0);
  assert.equal(after(start(), delta(1, "Hel"), end("Goodbye")).edition, 1);
  const again = { message_id: "a-2" };
  assert.equal(after(start(), delta(1, "Hel"), error({ retrying: true }), start(again)).edition, 1);
});

test("frames that come twice change nothing", () => {
  const answers = new Answers();
  const half = delta(1, "Hel");
  const frames = [start(), half, half, start(), end("Hello"), end("Hello"), delta(2, "x")];
  const changes = frames.map((frame) => answers.apply(frame) !== null);
  assert.deepEqual(changes, [true, true, false, false, true, false, false]);
});

test("a new attempt replaces the one that failed", () => {
  const first = [start(), delta(1, "Hel"), error({ retrying: true })];
  const failed = after(...first);
  assert.deepEqual([failed.state, failed.refusal.code], ["retrying", "internal"]);
  const again = { message_id: "a-2" };
  const second = after(...first, start(again), delta(1, "Good", again));
  assert.deepEqual([second.state, second.attempt, second.text, second.refusal], ["writing", 2, "Good", null]);
});

test("what an earlier attempt still says is not heard", () => {
  const again = { message_id: "a-2" };
  const second = [start(again), delta(1, "Good", again)];
  const answer = after(start(), error({ retrying: true }), ...second, delta(2, "old"), end("old"));
  assert.deepEqual([answer.messageId, answer.text], ["a-2", "Good"]);
});

test("the last error ends the answer with what was written so far", () => {
  const answer = after(start(), delta(1, "Hel"), error());
  assert.deepEqual([answer.state, answer.text], ["failed", "Hel"]);
});

test("the end of an interrupted answer still counts, whatever log brings it", () => {
  const answers = new Answers();
  answers.apply(start());
  assert.deepEqual(answers.interrupt().map(({ state }) => state), ["interrupted"]);
  const answer = answers.apply(end("Hello", { log: "user:alice" }));
  assert.deepEqual([answer.state, answer.text], ["done", "Hello"]);
});

test("an end without words of its own keeps what was written, with what else it carries", () => {
  const answer = after(start(), delta(1, "Three."), end("", { payload: { count: 3 } }));
  assert.deepEqual([answer.text, answer.payload], ["Three.", { count: 3 }]);
});

test("only so many answers are remembered", () => {
  const answers = new Answers();
  for (let count = 0; count <= MOST_ANSWERS; count += 1) {
    answers.apply(start({ in_reply_to: `q-${count}`, message_id: `a-${count}` }));
  }
  assert.equal(answers.interrupt().length, MOST_ANSWERS);
});
