import assert from "node:assert/strict";
import { test } from "node:test";

import { Keepsake } from "../../platform/city_hall/console/model/keepsake.js";
import { connected, publication, response, talking, welcome } from "./talking.js";

function storage({ isFull = false } = {}) {
  const kept = new Map();
  return {
    getItem: (name) => kept.get(name) ?? null,
    removeItem: (name) => kept.delete(name),
    setItem: (name, value) => {
      if (isFull) throw new Error("QuotaExceededError");
      kept.set(name, value);
    },
  };
}

function acknowledge({ socket }) {
  socket.says({ type: "ack", id: socket.last("message").id, status: "queued", message_id: "q-1" });
}

/** The same tab after a reload. */
async function reloaded(talk) {
  const keepsake = new Keepsake(storage());
  keepsake.write(talk.keep());
  return talking(keepsake.read());
}

test("over a reload the conversation stays, and the connection is resumed where it was read to", async () => {
  const { world, talk } = await connected();
  world.socket.says(publication(41));
  const after = await reloaded(talk);
  assert.equal(after.talk.threads.of("guide")[0].body.text, "news");
  assert.equal(after.world.socket.resume, "c-1");
  after.world.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  assert.deepEqual(after.world.socket.last("subscribe").channels.guide, { offset: 41, epoch: "e" });
});

test("a message without an ack goes out again under its key, an acknowledged one does not", async () => {
  const { world, talk } = await connected();
  talk.say("guide", "safe");
  acknowledge(world);
  talk.say("guide", "in flight");
  const { key, payload } = world.socket.last("message");
  const after = await reloaded(talk);
  after.world.socket.says(welcome("c-2"));
  const sent = after.world.socket.sent.filter((frame) => frame.payload);
  assert.deepEqual(sent.map((frame) => [frame.key, frame.payload]), [[key, payload]]);
});

test("an answer that was being written goes on under its question", async () => {
  const { world, talk } = await connected();
  talk.say("guide", "hello");
  acknowledge(world);
  world.socket.says(response({ stream: "start" }));
  world.socket.says(response({ stream: "delta", part: 1, payload: { message: "Hel" } }));
  const after = await reloaded(talk);
  after.world.socket.says(welcome("c-2"));
  after.world.socket.says(response({ stream: "end", payload: { message: "Hello!" }, log: "user:alice" }));
  const items = after.talk.threads.of("guide");
  assert.deepEqual(items.map(({ kind }) => kind), ["question", "answer"]);
  assert.deepEqual([items[1].answer.text, items[1].answer.state], ["Hello!", "done"]);
});

test("a reload before the connection is back loses nothing of it", async () => {
  const { world, talk } = await connected();
  world.socket.says(publication(41));
  const { talk: again } = await reloaded((await reloaded(talk)).talk);
  assert.deepEqual(again.keep(), talk.keep());
});

test("positions of connections that are no more are not carried along", async () => {
  const { talk } = await connected();
  const after = await reloaded(talk);
  after.world.socket.says(welcome("c-2"));
  const logs = after.talk.keep().past.positions.map(([log]) => log);
  assert.equal(logs.includes("connection:c-1"), false);
  assert.equal(logs.includes("connection:c-2"), true);
});

test("what another release has kept is not read, and neither is nonsense", () => {
  const store = storage();
  const keepsake = new Keepsake(store);
  for (const text of ['{"version":1,"kept":{}}', "}{", "7", "null"]) {
    store.setItem("smart-talk.console", text);
    assert.equal(keepsake.read(), null, text);
  }
});

test("a full store keeps nothing and breaks nothing", async () => {
  const keepsake = new Keepsake(storage({ isFull: true }));
  keepsake.write((await connected()).talk.keep());
  assert.equal(keepsake.read(), null);
});
