import assert from "node:assert/strict";
import { test } from "node:test";

import { judge } from "../../platform/city_hall/console/client/closing.js";
import { KEY_LIFE_MS, MOST_WAITING, Outgoing } from "../../platform/city_hall/console/client/outgoing.js";
import { FakeClock } from "./world.js";

function outgoing({ isUp = true } = {}) {
  const link = { isUp, sent: [] };
  const clock = new FakeClock();
  const send = (frame) => link.isUp && link.sent.push(frame) > 0;
  const post = new Outgoing(send, clock);
  const say = (text) => post.submit({ channel: "guide", text, conversationId: "talk" });
  return { post, link, clock, say };
}

test("a message goes out as the contract has it, under a key of its own", () => {
  const { link, say } = outgoing();
  const message = say("hello");
  assert.deepEqual(link.sent, [{
    channel: "guide", intent: "chat", payload: { message: "hello", conversation_id: "talk" },
    id: message.key, key: message.key,
  }]);
  assert.match(message.key, /^[0-9a-f]{32}$/);
  assert.equal(message.progress, "sent");
});

test("messages typed offline go out in order, each once", () => {
  const { post, link, say } = outgoing({ isUp: false });
  const typed = ["one", "two", "three"].map(say);
  assert.deepEqual(typed.map(({ progress }) => progress), ["waiting", "waiting", "waiting"]);
  assert.equal(post.waiting, 3);
  link.isUp = true;
  post.flush(4096);
  post.flush(4096);
  assert.deepEqual(link.sent.map(({ payload }) => payload.message), ["one", "two", "three"]);
});

test("an ack makes a message safe and frees its place", () => {
  const { post, say } = outgoing();
  const message = say("hello");
  assert.equal(post.acked({ type: "ack", id: message.key, status: "queued", message_id: "m-1" }), true);
  assert.deepEqual([message.progress, message.messageId, message.status], ["safe", "m-1", "queued"]);
  assert.equal(post.acked({ type: "ack", id: message.key }), false);
});

test("only so many wait", () => {
  const { post, say } = outgoing({ isUp: false });
  for (let count = 0; count < MOST_WAITING; count += 1) assert.notEqual(say("x"), null);
  assert.equal(post.isFull, true);
  assert.equal(say("one too many"), null);
});

test("cut off in flight, a message goes out again under the same key", () => {
  const { post, link, say } = outgoing();
  const { key } = say("hello");
  post.interrupted(judge(1006));
  post.flush(4096);
  assert.deepEqual(link.sent.map((frame) => frame.key), [key, key]);
});

test("what may have closed the connection is not sent again by itself", () => {
  const { post, link, say } = outgoing();
  const message = say("hello");
  post.interrupted(judge(1009));
  post.flush(4096);
  assert.equal(message.progress, "failed");
  assert.equal(link.sent.length, 1);
});

test("a message that was never sent is not to blame", () => {
  const { post, link, say } = outgoing({ isUp: false });
  const message = say("hello");
  post.interrupted(judge(1009));
  assert.equal(message.progress, "waiting");
  link.isUp = true;
  post.flush(4096);
  assert.equal(message.progress, "sent");
});

test("after the platform has forgotten keys, a message in doubt is left to the person", () => {
  const { post, link, clock, say } = outgoing();
  const message = say("hello");
  post.interrupted(judge(1006));
  clock.pass(KEY_LIFE_MS + 1);
  post.flush(4096);
  assert.deepEqual([message.progress, message.refusal.code], ["failed", "uncertain"]);
  post.sendAgain(message.key);
  assert.equal(message.progress, "sent");
  assert.equal(link.sent.length, 2);
});

test("a message longer than the platform takes is not sent at all", () => {
  const { post, link, say } = outgoing({ isUp: false });
  const message = say("é".repeat(1900));
  link.isUp = true;
  post.flush(4096);
  assert.equal(message.progress, "sent");
  const tooLong = say("é".repeat(2100));
  assert.deepEqual([tooLong.progress, tooLong.refusal.code], ["failed", "too_large"]);
  assert.equal(link.sent.length, 1);
});

test("a refused message can be sent again, or discarded", () => {
  const { post, link, say } = outgoing();
  const message = say("hello");
  assert.equal(post.refused(message.key, { code: "rate_limited", message: "slow" }, 3), true);
  assert.deepEqual([message.progress, message.retryAfter], ["failed", 3]);
  post.sendAgain(message.key);
  assert.deepEqual([message.progress, message.refusal, link.sent.length], ["sent", null, 2]);
  post.refused(message.key, { code: "forbidden", message: "no" });
  post.discard(message.key);
  post.sendAgain(message.key);
  assert.equal(link.sent.length, 2);
});

test("refusals of other frames are not taken for one's own", () => {
  const { post } = outgoing();
  assert.equal(post.refused("other", { code: "internal", message: "" }), false);
  assert.equal(post.refused(undefined, { code: "internal", message: "" }), false);
});

test("a held message waits for its final ack and survives a loss", () => {
  const { post, say } = outgoing();
  const message = say("hello");
  post.acked({ type: "ack", id: message.key, status: "held", message_id: "m-1" });
  post.interrupted(judge(1006));
  assert.equal(message.progress, "waiting");
});
