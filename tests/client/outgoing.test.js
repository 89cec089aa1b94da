import assert from "node:assert/strict";
import { test } from "node:test";

import { judge } from "../../platform/city_hall/console/client/closing.js";
import { KEY_LIFE_MS, MOST_BYTES, MOST_WAITING, Outgoing } from "../../platform/city_hall/console/client/outgoing.js";
import { FakeClock } from "./world.js";

function outgoing({ isUp = true } = {}) {
  const link = { isUp, sent: [] };
  const clock = new FakeClock();
  const send = (frame) => link.isUp && link.sent.push(frame) > 0;
  const post = new Outgoing({ send, clock, random: () => 0.5 });
  let count = 0;
  const messages = new Map();
  const sender = {
    tell: (news) => {
      const told = messages.get(news.id);
      Object.assign(told, news, { all: [...told.all, news.progress] });
    },
  };
  const say = (text, { patience = 0, ...more } = {}) => {
    const id = `id-${(count += 1)}`;
    const told = { all: [] };
    messages.set(id, told);
    const frame = { channel: "guide", intent: "chat", payload: { message: text }, id, key: `key-${count}`, ...more };
    post.submit(sender, { frame, firstSentAt: 0, patience });
    return told;
  };
  return { post, link, clock, say };
}

const refusal = (id, more = {}) => ({ type: "error", id, code: "forbidden", message: "no", retryable: false, ...more });
const busy = (id, more = {}) => refusal(id, { code: "rate_limited", retryable: true, ...more });

test("a message goes out when there is a connection, and its ack makes it safe and frees its place", () => {
  const { post, link, say } = outgoing();
  const message = say("hello");
  assert.deepEqual(message.all, ["waiting", "sent"]);
  assert.equal(link.sent[0].key, "key-1");
  assert.notEqual(post.acked({ type: "ack", id: "id-1", status: "queued", message_id: "m-1" }), null);
  assert.deepEqual([message.progress, message.messageId, message.status], ["safe", "m-1", "queued"]);
  assert.equal(post.acked({ type: "ack", id: "id-1" }), null);
});

test("a publication's ack tells its position, and whether it had been there before", () => {
  const { post, say } = outgoing();
  const message = say("news", { type: "publish" });
  post.acked({ type: "ack", id: "id-1", status: "published", message_id: "m", offset: 7, epoch: "e", duplicate: true });
  assert.deepEqual([message.position, message.isDuplicate], [{ offset: 7, epoch: "e" }, true]);
});

test("messages sent offline go out in order, each once", () => {
  const { post, link, say } = outgoing({ isUp: false });
  const typed = ["one", "two", "three"].map((text) => say(text));
  assert.deepEqual(typed.map(({ progress }) => progress), ["waiting", "waiting", "waiting"]);
  link.isUp = true;
  post.flush(4096);
  post.flush(4096);
  assert.deepEqual(link.sent.map(({ payload }) => payload.message), ["one", "two", "three"]);
});

test("only so many wait, and only so much", () => {
  const { say } = outgoing({ isUp: false });
  for (let count = 0; count < MOST_WAITING; count += 1) assert.equal(say("x").progress, "waiting");
  assert.equal(say("one too many").refusal.code, "queue_full");
  const { say: send } = outgoing({ isUp: false });
  assert.equal(send("x".repeat(MOST_BYTES)).progress, "waiting");
  assert.equal(send("more").refusal.code, "queue_full");
});

test("cut off in flight, a message goes out again under the same key", () => {
  const { post, link, say } = outgoing();
  say("hello");
  post.interrupted(judge(1006));
  post.flush(4096);
  assert.deepEqual(link.sent.map((frame) => frame.key), ["key-1", "key-1"]);
});

test("what may have closed the connection is not sent again by itself", () => {
  const { post, link, say } = outgoing();
  const message = say("hello");
  post.interrupted(judge(1009));
  post.flush(4096);
  assert.deepEqual([message.progress, message.refusal.code, link.sent.length], ["failed", "too_large", 1]);
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

test("at the end of the connection nobody goes on waiting", () => {
  const { post, say } = outgoing();
  const message = say("hello");
  post.interrupted(judge(4501));
  assert.deepEqual([message.progress, message.refusal.code], ["failed", "ended"]);
});

test("after the platform has forgotten keys, a message in doubt is left to the sender", () => {
  const { post, link, clock, say } = outgoing();
  const message = say("hello");
  post.interrupted(judge(1006));
  clock.pass(KEY_LIFE_MS + 1);
  post.flush(4096);
  assert.deepEqual([message.progress, message.refusal.code, link.sent.length], ["failed", "uncertain", 1]);
});

test("a message longer than the platform takes is not sent at all", () => {
  const { post, link, say } = outgoing({ isUp: false });
  const message = say("é".repeat(1900));
  link.isUp = true;
  post.flush(4096);
  assert.equal(message.progress, "sent");
  const tooLong = say("é".repeat(2100));
  assert.deepEqual([tooLong.progress, tooLong.refusal.code, link.sent.length], ["failed", "too_large", 1]);
});

test("a refusal that may pass is met by sending again, no sooner than asked", () => {
  const { post, link, clock, say } = outgoing();
  const message = say("hello", { patience: 30_000 });
  post.refused(busy("id-1", { retry_after: 3 }));
  assert.equal(message.progress, "waiting");
  clock.pass(2_999);
  assert.equal(link.sent.length, 1);
  clock.pass(1);
  assert.equal(link.sent.length, 2);
  assert.deepEqual(link.sent.map(({ key }) => key), ["key-1", "key-1"]);
});

test("patience ends, and has none for what does not pass", () => {
  const { post, link, clock, say } = outgoing();
  const message = say("hello", { patience: 1_000 });
  for (let count = 0; message.progress !== "failed"; count += 1) {
    post.refused(busy("id-1"));
    clock.pass(1_000);
    assert.ok(count < 10);
  }
  assert.equal(message.refusal.code, "rate_limited");
  const sent = link.sent.length;
  const other = say("hello", { patience: 30_000 });
  post.refused(refusal("id-2"));
  assert.deepEqual([other.refusal.code, link.sent.length], ["forbidden", sent + 1]);
});

test("what its sender has given up is not sent any more", () => {
  const { post, link, clock, say } = outgoing();
  say("hello", { patience: 30_000 });
  post.refused(busy("id-1"));
  post.forget("id-1");
  clock.pass(30_000);
  post.flush(4096);
  assert.equal(link.sent.length, 1);
  assert.equal(clock.waiting, 0);
});

test("refusals of other frames are not taken for one's own", () => {
  const { post } = outgoing();
  assert.equal(post.refused(refusal("other")), false);
  assert.equal(post.refused(refusal(undefined)), false);
});

test("a held message waits for its final ack and survives a loss", () => {
  const { post, say } = outgoing();
  const message = say("hello");
  post.acked({ type: "ack", id: "id-1", status: "held", message_id: "m-1" });
  post.interrupted(judge(1006));
  assert.equal(message.progress, "waiting");
});
