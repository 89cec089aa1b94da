import assert from "node:assert/strict";
import { test } from "node:test";

import { STEADY_MS } from "../../platform/city_hall/console/client/connection.js";
import { connectedCity, join, publication, response, told, welcome } from "./world.js";

function reconnect(world) {
  world.socket.ends(1006);
  world.clock.pass(250);
}

test("the first subscribe asks for every channel from now, not for one's own logs", async () => {
  const { world } = await connectedCity();
  assert.deepEqual(world.socket.last("subscribe").channels, { guide: null, "pillar:content": null });
});

test("after a loss it asks from where it stopped: ack, publication, welcome", async () => {
  const { world } = await connectedCity();
  world.socket.says(publication(41));
  reconnect(world);
  world.socket.says(welcome("c-2"));
  assert.deepEqual(world.socket.last("subscribe").channels, {
    guide: { offset: 41, epoch: "e" },
    "pillar:content": { offset: 40, epoch: "e" },
  });
});

test("its own log is asked for only where the welcome does not stand at what was read", async () => {
  const { world } = await connectedCity();
  reconnect(world);
  const channels = { "connection:c-2": { offset: 0, epoch: "" }, "user:alice": { offset: 9, epoch: "u" } };
  world.socket.says(welcome("c-2", { channels }));
  assert.deepEqual(world.socket.last("subscribe").channels["user:alice"], { offset: 7, epoch: "u" });
});

test("resumed, it asks for its own two logs too, which are silent until then", async () => {
  const { world } = await connectedCity();
  world.socket.says(response({ stream: "start", offset: 1, epoch: "c" }));
  reconnect(world);
  world.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  const { channels } = world.socket.last("subscribe");
  assert.deepEqual(channels["connection:c-1"], { offset: 1, epoch: "c" });
  assert.deepEqual(channels["user:alice"], { offset: 7, epoch: "u" });
});

test("ephemeral parts of an answer move no position", async () => {
  const { world } = await connectedCity();
  world.socket.says(response({ stream: "start", offset: 1, epoch: "c" }));
  world.socket.says(response({ stream: "delta", part: 1, payload: { message: "Hel" } }));
  reconnect(world);
  world.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  assert.equal(world.socket.last("subscribe").channels["connection:c-1"].offset, 1);
});

test("what cannot be recovered is told with its reason, once, and the rest goes on", async () => {
  const { world, city } = await connectedCity();
  const events = told(city, "reset", "subscribed");
  reconnect(world);
  const trimmed = { offset: 90, epoch: "f", recovered: false, reason: "trimmed" };
  join(world.socket, { outcomes: { guide: trimmed } });
  const resets = events.filter(([kind]) => kind === "reset").map(([, reset]) => reset);
  assert.deepEqual(resets, [{ channel: "guide", position: { offset: 90, epoch: "f" }, reason: "trimmed" }]);
  world.socket.says(publication(91, { epoch: "f" }));
  world.clock.pass(STEADY_MS);
  reconnect(world);
  world.socket.says(welcome("c-3"));
  assert.deepEqual(world.socket.last("subscribe").channels.guide, { offset: 91, epoch: "f" });
});

test("a reset moves the position and says what it broke", async () => {
  const { world, city } = await connectedCity();
  const events = told(city, "reset");
  world.socket.says({ type: "reset", channel: "guide", offset: 60, epoch: "g", reason: "trimmed" });
  assert.equal(events[0][1].reason, "trimmed");
  reconnect(world);
  world.socket.says(welcome("c-2"));
  assert.deepEqual(world.socket.last("subscribe").channels.guide, { offset: 60, epoch: "g" });
});

test("a channel that is only away for the moment is asked for again, alone", async () => {
  const { world, city } = await connectedCity();
  const events = told(city, "unsubscribed");
  reconnect(world);
  join(world.socket, { outcomes: { guide: { error: { code: "unavailable", message: "Valkey is away" } } } });
  const asked = world.socket.sent.length;
  world.clock.pass(500);
  assert.equal(world.socket.sent.length, asked + 1);
  assert.deepEqual(world.socket.last("subscribe").channels, { guide: { offset: 40, epoch: "e" } });
  assert.equal(events.at(-1)[1].retrying, true);
});

test("a channel that is forbidden is not asked for again on this connection", async () => {
  const { world } = await connectedCity();
  reconnect(world);
  join(world.socket, { outcomes: { guide: { error: { code: "forbidden", message: "no" } } } });
  const asked = world.socket.sent.length;
  world.clock.pass(20_000);
  assert.equal(world.socket.sent.length, asked);
});

test("a channel that the platform ended is not asked for any more", async () => {
  const { world } = await connectedCity();
  world.socket.says({ type: "unsubscribed", channel: "guide", code: "forbidden", message: "grant gone" });
  reconnect(world);
  world.socket.says(welcome("c-2"));
  assert.equal("guide" in world.socket.last("subscribe").channels, false);
});

test("asking again for a passing refusal ends with the connection", async () => {
  const { world } = await connectedCity();
  reconnect(world);
  join(world.socket, { outcomes: { guide: { error: { code: "unavailable", message: "away" } } } });
  const socket = world.socket;
  const asked = socket.sent.length;
  socket.ends(4501);
  world.clock.pass(60_000);
  assert.equal(socket.sent.length, asked);
});
