import assert from "node:assert/strict";
import { test } from "node:test";

import { GONE_MS, Hall, PING_MS } from "../../platform/city_hall/console/client/hall.js";
import { City } from "../../platform/city_hall/console/client/index.js";
import { PROBE_MS, SILENCE_MS, START_MS, through } from "../../platform/city_hall/console/client/sharing.js";
import { Address } from "../../platform/city_hall/console/client/addresses.js";
import { World, join, publication, told, welcome } from "./world.js";

/** Two ends of one line. What goes over it is cloned, as between threads; it can be cut, or freeze, without a word. */
function line() {
  const link = { isCut: false, isFrozen: false, queue: [] };
  const end = () => ({ onmessage: null, close: () => (link.isCut = true) });
  const [here, there] = [end(), end()];
  const deliver = (to, data) => to.onmessage?.({ data });
  here.postMessage = (data) => link.isCut || deliver(there, structuredClone(data));
  there.postMessage = (data) => {
    if (link.isFrozen) link.queue.push(structuredClone(data));
    else if (!link.isCut) deliver(here, structuredClone(data));
  };
  link.thaw = () => {
    link.isFrozen = false;
    for (const data of link.queue.splice(0)) deliver(here, data);
  };
  return { here, there, link };
}

/** A hall in a world of its own, and tabs that each have one too, for the connection they fall back to. */
function house() {
  const world = new World();
  const hall = new Hall(() => world, world.clock);
  const open = async ({ startWorker, token = "ses_a", channels = ["guide"], sleeps = false } = {}) => {
    const { here, there, link } = line();
    const worker = { port: here, onerror: null };
    const own = new World();
    if (!sleeps) own.clock = world.clock;
    const start = startWorker ?? (() => (hall.receive(there), worker));
    const way = through(new Address("http://city.test", token), own, start);
    const city = new City("http://city.test", { world: own, through: way, token });
    city.subscribe(channels);
    await null;
    return { city, link, worker, own };
  };
  return { world, hall, open };
}

/** Time passes on a connection that lives. */
function pass({ socket, clock }, milliseconds) {
  for (let passed = 0; passed <= milliseconds; passed += PING_MS) {
    socket.says({ type: "heartbeat" });
    clock.pass(PING_MS);
  }
}

test("tabs of one session share a connection, those of another have another", async () => {
  const { world, hall, open } = house();
  const one = await open();
  join(world.socket);
  const two = await open();
  await open({ token: "ses_b" });
  const heard = told(two.city, "message");
  world.sockets[0].says(publication(41));
  assert.deepEqual([hall.size, world.sockets.map(({ token }) => token)], [3, ["ses_a", "ses_b"]]);
  assert.deepEqual([heard.length, one.city.userId, one.own.sockets.length], [1, "alice", 0]);
});

test("a tab that dies without a word is noticed, and what it asked for let go", async () => {
  const { world, hall, open } = house();
  await open();
  join(world.socket);
  const { link } = await open({ channels: ["pillar:content"] });
  join(world.socket);
  link.isCut = true;
  pass(world, GONE_MS + PING_MS);
  assert.equal(hall.size, 1);
  assert.deepEqual(world.socket.last("unsubscribe").channels, ["pillar:content"]);
});

test("a tab whose lock is free is gone at once", async () => {
  const world = new World();
  const locks = new Map();
  const hall = new Hall(() => world, world.clock, { own: "hall", whenFree: (lock, then) => locks.set(lock, then) });
  const { here, there } = line();
  hall.receive(there);
  here.postMessage({ kind: "open", url: "http://city.test", token: "", encoding: "json" });
  here.postMessage({ kind: "holds", lock: "tab" });
  const hello = { ask: "hello", token: "", past: {}, channels: {}, letters: [], isWatching: false };
  here.postMessage({ kind: "ask", request: hello });
  assert.equal(hall.size, 1);
  locks.get("tab")();
  locks.get("tab")();
  assert.deepEqual([hall.size, world.socket.closed], [0, 1000]);
});

test("a tab that was frozen comes back with everything it wanted, and misses nothing", async () => {
  const { world, hall, open } = house();
  await open({ channels: ["pillar:content"] });
  join(world.socket);
  const { city, link } = await open({ sleeps: true });
  join(world.socket);
  const heard = told(city, "message");
  world.socket.says(publication(41));
  link.isFrozen = true;
  pass(world, GONE_MS + PING_MS);
  world.socket.says(publication(42));
  assert.equal(hall.size, 1);
  link.thaw();
  const { id, channels } = world.socket.last("subscribe");
  assert.deepEqual([hall.size, channels], [2, { guide: { offset: 41, epoch: "e" } }]);
  world.socket.says({ type: "ack", id, channels: { guide: { offset: 41, epoch: "e", recovered: true, missed: 1 } } });
  world.socket.says(publication(42));
  assert.deepEqual(heard.map(([, { offset }]) => offset), [41, 42]);
});

test("a tab that leaves says so; the last one closes the connection", async () => {
  const { world, hall, open } = house();
  const one = await open();
  join(world.socket);
  const two = await open();
  one.city.close();
  assert.deepEqual([hall.size, world.socket.closed], [1, undefined]);
  two.city.close();
  assert.deepEqual([hall.size, world.socket.closed], [0, 1000]);
});

test("signing out in one tab ends it for all", async () => {
  const { world, open } = house();
  const one = await open();
  join(world.socket);
  const two = await open();
  one.city.end();
  assert.deepEqual([world.socket.closed, two.city.state.phase], [1000, "off"]);
});

test("who comes with a refreshed token finds the same connection", async () => {
  const { world, open } = house();
  const one = await open();
  join(world.socket);
  const refreshed = one.city.refresh("ses_new");
  world.socket.says({ type: "ack", id: world.socket.last("refresh").id });
  await refreshed;
  const two = await open({ token: "ses_new" });
  assert.deepEqual([world.sockets.length, two.city.userId], [1, "alice"]);
});

test("a refreshed token that was refused, another person's say, leads whoever has it elsewhere", async () => {
  const { world, open } = house();
  const one = await open();
  join(world.socket);
  const refreshed = one.city.refresh("ses_bob");
  world.socket.says({ type: "error", id: world.socket.last("refresh").id, code: "forbidden", message: "bob's" });
  await assert.rejects(refreshed);
  await open({ token: "ses_bob" });
  assert.deepEqual(world.sockets.map(({ token }) => token), ["ses_a", "ses_bob"]);
  await open();
  assert.equal(world.sockets.length, 2);
});

const broken = {
  "throws when it is made": () => {
    throw new Error("SecurityError");
  },
  "never says a word": () => ({ port: line().here, onerror: null }),
};

for (const [how, startWorker] of Object.entries(broken)) {
  test(`a worker that ${how} is done without`, async () => {
    const { world, open } = house();
    const { city, own } = await open({ startWorker });
    world.clock.pass(START_MS);
    join(own.socket);
    const heard = told(city, "message");
    own.socket.says(publication(41));
    assert.deepEqual([own.sockets.length, heard.length, city.state.phase], [1, 1, "connected"]);
  });
}

test("a worker whose script cannot be loaded is done without at once", async () => {
  const { open } = house();
  const worker = { port: line().here, onerror: null };
  const { own } = await open({ startWorker: () => worker });
  worker.onerror();
  assert.equal(own.sockets.length, 1);
});

test("a worker that dies is replaced by a connection of one's own, which goes on from where it stood", async () => {
  const { world, open } = house();
  const { city, link, own } = await open();
  join(world.socket);
  world.socket.says(publication(41));
  const sent = city.send("guide", "in flight");
  const { key } = world.socket.last("message");
  link.isCut = true;
  world.clock.pass(SILENCE_MS + PROBE_MS);
  own.socket.says(welcome("c-2"));
  assert.deepEqual(own.socket.last("subscribe").channels.guide, { offset: 41, epoch: "e" });
  const again = own.socket.last("message");
  assert.equal(again.key, key);
  own.socket.says({ type: "ack", id: again.id, status: "queued", message_id: "q-1", duplicate: true });
  assert.equal((await sent).messageId, "q-1");
});

test("a worker that was only quiet is not left", async () => {
  const { world, hall, open } = house();
  const { city, own } = await open();
  join(world.socket);
  pass(world, 4 * SILENCE_MS);
  assert.deepEqual([hall.size, own.sockets.length, city.state.phase], [1, 0, "connected"]);
});
