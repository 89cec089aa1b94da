import assert from "node:assert/strict";
import { test } from "node:test";

import { MOST_WAITING } from "../../platform/city_hall/console/model/outbox.js";
import { connected, talking } from "./talking.js";

function messages(talk) {
  return talk.threads.of("guide").map(({ message }) => message);
}

test("what is typed goes out under a key, and its ack makes it safe", async () => {
  const { world, talk } = await connected();
  talk.say("guide", "hello");
  const frame = world.socket.last("message");
  const [message] = messages(talk);
  assert.deepEqual([frame.payload.message, frame.key, message.progress], ["hello", message.key, "sent"]);
  world.socket.says({ type: "ack", id: frame.id, status: "queued", message_id: "q-1" });
  assert.deepEqual([message.progress, message.messageId, message.status], ["safe", "q-1", "queued"]);
});

test("only so many wait", async () => {
  const { talk } = await talking();
  for (let count = 0; count < MOST_WAITING; count += 1) assert.equal(talk.say("guide", "x"), true);
  assert.deepEqual([talk.outbox.isFull, talk.outbox.waiting], [true, MOST_WAITING]);
  assert.equal(talk.say("guide", "one too many"), false);
});

test("a refused message is not repeated by itself; it can be sent again, or discarded", async () => {
  const { world, talk } = await connected();
  talk.say("guide", "hello");
  const refuse = (code) => world.socket.says({
    type: "error", id: world.socket.last("message").id, code, message: "no", retryable: true, retry_after: 3,
  });
  refuse("rate_limited");
  const [message] = messages(talk);
  assert.deepEqual([message.progress, message.refusal.retryAfter], ["failed", 3]);
  const sent = world.socket.sent.length;
  talk.outbox.sendAgain(message.key);
  assert.deepEqual([message.progress, message.refusal, world.socket.sent.length], ["sent", null, sent + 1]);
  refuse("forbidden");
  talk.outbox.discard(message.key);
  talk.outbox.sendAgain(message.key);
  assert.equal(world.socket.sent.length, sent + 1);
});

test("what the end of a session cut off goes out in the next one, under its key", async () => {
  const { world, talk } = await connected();
  talk.say("guide", "in flight");
  const { key } = world.socket.last("message");
  world.socket.ends(4501);
  assert.equal(messages(talk)[0].progress, "failed");
  const after = await talking(structuredClone(talk.keep()));
  after.world.socket.says({
    type: "system", event: "welcome", connection_id: "c-2", user_id: "alice", instance_id: "i", resumed: false,
    heartbeat_seconds: 25, max_message_bytes: 4096, channels: {},
  });
  assert.equal(after.world.socket.last("message").key, key);
});
