import assert from "node:assert/strict";
import { test } from "node:test";

import { acknowledge, connectedCity, join, response, settled } from "./world.js";

const stops = (world) => world.sockets.flatMap(({ sent }) => sent.filter(({ type }) => type === "stop"));
const stopped = { stream: "error", error: { code: "stopped", message: "nobody wants it" }, retrying: false };

test("a question is stopped, and its answer rejects when the platform says so", async () => {
  const { world, city } = await connectedCity();
  const asking = city.ask("guide", "a long story");
  acknowledge(world);
  await settled();
  asking.stop();
  assert.deepEqual(stops(world).map(({ message_id }) => message_id), ["q-1"]);
  world.socket.says({ type: "ack", id: stops(world)[0].id, message_id: "q-1", outcome: "stopped" });
  world.socket.says(response(stopped));
  await assert.rejects(async () => asking, { code: "stopped" });
  asking.stop();
  assert.equal(stops(world).length, 1);
});

test("a question that is stopped before it is acknowledged is stopped then", async () => {
  const { world, city } = await connectedCity();
  const asking = city.ask("guide", "a long story");
  asking.stop();
  assert.equal(stops(world).length, 0);
  acknowledge(world);
  await settled();
  assert.equal(stops(world).length, 1);
  world.socket.says(response(stopped));
  await assert.rejects(async () => asking, { code: "stopped" });
});

test("calling off by a signal stops what was asked, also before it was acknowledged", async () => {
  const { world, city } = await connectedCity();
  for (const isKnown of [true, false]) {
    const before = stops(world).length;
    const ended = new AbortController();
    const asking = city.ask("guide", "a long story", { signal: ended.signal });
    if (isKnown) acknowledge(world);
    await settled();
    ended.abort();
    await assert.rejects(async () => asking, { name: "AbortError" });
    if (!isKnown) acknowledge(world);
    await settled();
    assert.equal(stops(world).length, before + 1);
  }
});

test("a question that is called off while it is held is stopped once it is in the inbox", async () => {
  const { world, city } = await connectedCity();
  const ended = new AbortController();
  const asking = city.ask("guide", "a long story", { signal: ended.signal });
  const { id } = world.socket.last("message");
  ended.abort();
  await assert.rejects(async () => asking, { name: "AbortError" });
  const ack = { type: "ack", id, channel: "guide", message_id: "q-1" };
  world.socket.says({ ...ack, status: "held" });
  assert.equal(stops(world).length, 0);
  world.socket.says({ ...ack, status: "queued" });
  assert.deepEqual(stops(world).map(({ message_id }) => message_id), ["q-1"]);
});

test("a publication that is called off stops nothing", async () => {
  const { world, city } = await connectedCity();
  const ended = new AbortController();
  const publishing = city.publish("guide", "news", { signal: ended.signal });
  const { id } = world.socket.last("publish");
  ended.abort();
  await assert.rejects(publishing, { name: "AbortError" });
  world.socket.says({ type: "ack", id, channel: "guide", status: "published", message_id: "m", offset: 41, epoch: "e" });
  assert.equal(stops(world).length, 0);
});

test("a stop is told again over the next socket, until it is acknowledged", async () => {
  const { world, city } = await connectedCity();
  city.stop("q-1");
  world.socket.ends(1006);
  world.clock.pass(250);
  join(world.socket, { id: "c-2" });
  assert.equal(stops(world).length, 2);
  world.socket.says({ type: "ack", id: stops(world)[1].id, message_id: "q-1", outcome: "finished" });
  world.socket.ends(1006);
  world.clock.pass(1000);
  join(world.socket, { id: "c-3" });
  assert.equal(stops(world).length, 2);
});

test("a stop that is refused for a moment is told again, and not for ever", async () => {
  const { world, city } = await connectedCity();
  city.stop("q-1");
  for (let n = 0; n < 10; n += 1) {
    world.socket.says({ type: "error", id: stops(world).at(-1).id, code: "unavailable", message: "", retryable: true });
    world.clock.pass(30_000);
    world.socket.says({ type: "heartbeat" });
  }
  assert.equal(stops(world).length, 5);
});
