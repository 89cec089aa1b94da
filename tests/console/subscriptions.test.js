import assert from "node:assert/strict";
import { test } from "node:test";

import { connectedCity, join, publication, response, welcome } from "./world.js";

function reconnect(world) {
  world.socket.ends(1006);
  world.clock.pass(250);
}

test("the first subscribe asks for every channel from now, not for one's own logs", () => {
  const { world } = connectedCity();
  assert.deepEqual(world.socket.last("subscribe").channels, { guide: null, "pillar:content": null });
});

test("after a loss it asks from where it stopped: ack, publication, welcome", () => {
  const { world } = connectedCity();
  world.socket.says(publication(41));
  reconnect(world);
  world.socket.says(welcome("c-2"));
  assert.deepEqual(world.socket.last("subscribe").channels, {
    guide: { offset: 41, epoch: "e" },
    "pillar:content": { offset: 40, epoch: "e" },
    "user:alice": { offset: 7, epoch: "u" },
  });
});

test("resumed, it asks for its own two logs too, which are silent until then", () => {
  const { world } = connectedCity();
  world.socket.says(response({ stream: "start", offset: 3, epoch: "c" }));
  reconnect(world);
  world.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  const { channels } = world.socket.last("subscribe");
  assert.deepEqual(channels["connection:c-1"], { offset: 3, epoch: "c" });
  assert.deepEqual(channels["user:alice"], { offset: 7, epoch: "u" });
});

test("ephemeral parts of an answer move no position", () => {
  const { world } = connectedCity();
  world.socket.says(response({ stream: "start", offset: 3, epoch: "c" }));
  world.socket.says(response({ stream: "delta", part: 1, payload: { message: "Hel" } }));
  reconnect(world);
  world.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  assert.equal(world.socket.last("subscribe").channels["connection:c-1"].offset, 3);
});

test("caught up is said when the last missed message is here, not before", () => {
  const { world, news } = connectedCity();
  reconnect(world);
  join(world.socket, { outcomes: {
    guide: { offset: 40, epoch: "e", recovered: true, missed: 2 },
    "pillar:content": { offset: 40, epoch: "e", recovered: true, missed: 1 },
    "user:alice": { offset: 7, epoch: "u", recovered: true, missed: 0 },
  } });
  world.socket.says(publication(41));
  world.socket.says(publication(42));
  assert.deepEqual(news, []);
  world.socket.says(publication(41, { channel: "pillar:content" }));
  assert.deepEqual(news, ["Caught up: 3 messages."]);
});

test("nothing missed is said too", () => {
  const { world, news } = connectedCity();
  reconnect(world);
  const kept = { offset: 40, epoch: "e", recovered: true, missed: 0 };
  join(world.socket, { outcomes: { guide: kept, "pillar:content": kept, "user:alice": kept } });
  assert.deepEqual(news, ["Caught up: nothing was missed."]);
});

test("a stretch that cannot be recovered is told with its reason, and marked where it is missing", () => {
  const { world, city, news } = connectedCity();
  reconnect(world);
  const trimmed = { offset: 90, epoch: "f", recovered: false, reason: "trimmed" };
  join(world.socket, { outcomes: { guide: trimmed } });
  assert.deepEqual(news, ["Could not recover Guide: the history does not reach back that far."]);
  assert.deepEqual(city.threads.of("guide").map(({ kind }) => kind), ["notice"]);
});

test("a reset moves the position and says what it broke", () => {
  const { world, city } = connectedCity();
  world.socket.says({ type: "reset", channel: "guide", offset: 60, epoch: "g", reason: "trimmed" });
  assert.equal(city.threads.of("guide").at(-1).kind, "notice");
  reconnect(world);
  world.socket.says(welcome("c-2"));
  assert.deepEqual(world.socket.last("subscribe").channels.guide, { offset: 60, epoch: "g" });
});

test("a channel that is only away for the moment is asked for again, alone", () => {
  const { world, city } = connectedCity();
  reconnect(world);
  join(world.socket, { outcomes: { guide: { error: { code: "unavailable", message: "Valkey is away" } } } });
  const asked = world.socket.sent.length;
  world.clock.pass(500);
  assert.equal(world.socket.sent.length, asked + 1);
  assert.deepEqual(world.socket.last("subscribe").channels, { guide: { offset: 40, epoch: "e" } });
  assert.equal(city.threads.of("guide").at(-1).kind, "notice");
});

test("a channel that is forbidden is not asked for again on this connection", () => {
  const { world } = connectedCity();
  reconnect(world);
  join(world.socket, { outcomes: { guide: { error: { code: "forbidden", message: "no" } } } });
  const asked = world.socket.sent.length;
  world.clock.pass(20_000);
  assert.equal(world.socket.sent.length, asked);
});

test("a channel that the platform ended is not asked for any more", () => {
  const { world } = connectedCity();
  world.socket.says({ type: "unsubscribed", channel: "guide", code: "forbidden", message: "grant gone" });
  reconnect(world);
  world.socket.says(welcome("c-2"));
  assert.equal("guide" in world.socket.last("subscribe").channels, false);
});

test("asking again for a passing refusal ends with the connection", () => {
  const { world } = connectedCity();
  reconnect(world);
  join(world.socket, { outcomes: { guide: { error: { code: "unavailable", message: "away" } } } });
  const socket = world.socket;
  const asked = socket.sent.length;
  socket.ends(4501);
  world.clock.pass(60_000);
  assert.equal(socket.sent.length, asked);
});
