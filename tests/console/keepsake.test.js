import assert from "node:assert/strict";
import { test } from "node:test";

import { City } from "../../platform/city_hall/console/client/city.js";
import { Keepsake } from "../../platform/city_hall/console/client/keepsake.js";
import { World, connectedCity, publication, response, welcome } from "./world.js";

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
function reloaded(city) {
  const keepsake = new Keepsake(storage());
  keepsake.write(city.keep());
  const world = new World();
  const kept = keepsake.read();
  const again = new City(["guide", "pillar:content"], world, kept);
  again.connection.start(kept.connectionId);
  return { world, city: again };
}

test("over a reload the conversation stays, and the connection is resumed where it was read to", () => {
  const { world, city } = connectedCity();
  world.socket.says(publication(41));
  const after = reloaded(city);
  assert.equal(after.city.threads.of("guide")[0].body.text, "news");
  assert.equal(after.world.socket.resume, "c-1");
  after.world.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  assert.deepEqual(after.world.socket.last("subscribe").channels.guide, { offset: 41, epoch: "e" });
});

test("a message without an ack goes out again under its key, an acknowledged one does not", () => {
  const { world, city } = connectedCity();
  city.say("guide", "safe");
  acknowledge(world);
  city.say("guide", "in flight");
  const { key, payload } = world.socket.last("message");
  const after = reloaded(city);
  after.world.socket.says(welcome("c-2"));
  const sent = after.world.socket.sent.filter((frame) => frame.payload);
  assert.deepEqual(sent.map((frame) => [frame.key, frame.payload]), [[key, payload]]);
});

test("an answer that was being written goes on under its question", () => {
  const { world, city } = connectedCity();
  city.say("guide", "hello");
  acknowledge(world);
  world.socket.says(response({ stream: "start" }));
  world.socket.says(response({ stream: "delta", part: 1, payload: { message: "Hel" } }));
  const after = reloaded(city);
  after.world.socket.says(welcome("c-2"));
  after.world.socket.says(response({ stream: "end", payload: { message: "Hello!" }, log: "user:alice" }));
  const items = after.city.threads.of("guide");
  assert.deepEqual(items.map(({ kind }) => kind), ["question", "answer"]);
  assert.deepEqual([items[1].answer.text, items[1].answer.state], ["Hello!", "done"]);
});

test("a reload before the connection is back loses nothing of it", () => {
  const { world, city } = connectedCity();
  world.socket.says(publication(41));
  const { city: again } = reloaded(reloaded(city).city);
  assert.deepEqual(again.keep(), city.keep());
});

test("positions of connections that are no more are not carried along", () => {
  const { city } = connectedCity();
  const after = reloaded(city);
  after.world.socket.says(welcome("c-2"));
  const logs = after.city.keep().positions.map(([log]) => log);
  assert.equal(logs.includes("connection:c-1"), false);
  assert.equal(logs.includes("connection:c-2"), true);
});

test("what another release has kept is not read, and neither is nonsense", () => {
  const store = storage();
  const keepsake = new Keepsake(store);
  for (const text of ['{"version":0,"kept":{}}', "}{", "7", "null"]) {
    store.setItem("smart-city.console", text);
    assert.equal(keepsake.read(), null, text);
  }
});

test("a full store keeps nothing and breaks nothing", () => {
  const keepsake = new Keepsake(storage({ isFull: true }));
  keepsake.write(connectedCity().city.keep());
  assert.equal(keepsake.read(), null);
});
