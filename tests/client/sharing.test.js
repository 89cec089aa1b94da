import assert from "node:assert/strict";
import { test } from "node:test";

import { Engine } from "../../platform/city_hall/console/client/engine.js";
import { City } from "../../platform/city_hall/console/client/index.js";
import { World, join, publication, response, settled, told, welcome } from "./world.js";

/** Tabs on one engine; the first has connected it. */
async function tabs(count, channels = ["guide"]) {
  const world = new World();
  const engine = new Engine(world);
  const open = async (wanted = channels, past = {}) => {
    const city = new City("http://city.test", { world, past, through: (tell) => engine.attach(tell) });
    if (wanted.length > 0) city.subscribe(wanted);
    await null;
    return city;
  };
  const cities = [await open()];
  join(world.socket);
  while (cities.length < count) cities.push(await open());
  return { world, engine, cities, open };
}

const offsets = (events) => events.map(([, { offset }]) => offset);

test("many tabs share one socket and one subscription", async () => {
  const { world, cities: [one, other] } = await tabs(2);
  const [heard, heardToo] = [told(one, "message"), told(other, "message")];
  world.socket.says(publication(41));
  assert.deepEqual([world.sockets.length, world.socket.sent.length], [1, 1]);
  assert.deepEqual([offsets(heard), offsets(heardToo)], [[41], [41]]);
  assert.equal(other.userId, "alice");
});

test("a tab hears what it asked for and nothing else", async () => {
  const { world, cities: [one], open } = await tabs(1);
  const other = await open(["pillar:content"]);
  join(world.socket);
  const { id, channels } = world.socket.last("subscribe");
  world.socket.says({ type: "ack", id, channels: Object.fromEntries(Object.keys(channels).map((name) => [name, { offset: 40, epoch: "e" }])) });
  const [heard, heardToo] = [told(one, "message", "answer", "frame"), told(other, "message", "answer")];
  world.socket.says(publication(41));
  world.socket.says(publication(41, { channel: "pillar:content" }));
  assert.deepEqual(heardToo.map(([kind, { channel }]) => [kind, channel]), [["message", "pillar:content"]]);
  assert.deepEqual(heard.filter(([kind]) => kind === "message").map(([, { channel }]) => channel), ["guide"]);
});

test("a tab that reads from further back does not make another one hear anything again", async () => {
  const { world, cities: [one], open } = await tabs(1);
  const heard = told(one, "message");
  const other = await open([]);
  const heardToo = told(other, "message");
  other.subscribe("guide", { since: "38.e" });
  const { id, channels } = world.socket.last("subscribe");
  assert.deepEqual(channels, { guide: { offset: 38, epoch: "e" } });
  world.socket.says({ type: "ack", id, channels: { guide: { offset: 38, epoch: "e", recovered: true, missed: 2 } } });
  for (const offset of [39, 40, 41]) world.socket.says(publication(offset));
  assert.deepEqual([offsets(heard), offsets(heardToo)], [[41], [39, 40, 41]]);
});

test("an answer goes to the tab that asked, also when it is faster than the ack", async () => {
  const { world, cities: [one, other] } = await tabs(2);
  const [heard, heardToo] = [told(one, "answer"), told(other, "answer")];
  const asking = other.ask("guide", "hello");
  world.socket.says(response({ stream: "start" }));
  const { id } = world.socket.last("message");
  world.socket.says({ type: "ack", id, status: "queued", message_id: "q-1" });
  world.socket.says(response({ stream: "end", payload: { message: "Hi." } }));
  assert.equal((await asking).text, "Hi.");
  assert.deepEqual([heard.length, heardToo.length], [0, 2]);
});

test("an answer that no tab here has asked for is told to all of them", async () => {
  const { world, cities } = await tabs(2);
  const heard = cities.map((city) => told(city, "answer"));
  world.socket.says(response({ in_reply_to: "another device", payload: { message: "late" } }));
  assert.deepEqual(heard.map(({ length }) => length), [1, 1]);
});

test("equal keys of two tabs are two messages to them, as the platform sees fit", async () => {
  const { world, cities: [one, other] } = await tabs(2);
  const sent = [one, other].map((city) => city.send("guide", "hello", { key: "same" }));
  const frames = world.socket.sent.filter(({ key }) => key === "same");
  assert.equal(new Set(frames.map(({ id }) => id)).size, 2);
  for (const { id } of frames) world.socket.says({ type: "ack", id, status: "queued", message_id: "q-1" });
  assert.deepEqual((await Promise.all(sent)).map(({ messageId }) => messageId), ["q-1", "q-1"]);
});

test("what a tab that left has asked for is asked for no more; the last one closes the connection", async () => {
  const { world, engine, cities: [one], open } = await tabs(1);
  const other = await open(["pillar:content"]);
  const { id } = world.socket.last("subscribe");
  world.socket.says({ type: "ack", id, channels: { "pillar:content": { offset: 1, epoch: "e" } } });
  other.close();
  assert.deepEqual(world.socket.last("unsubscribe").channels, ["pillar:content"]);
  assert.deepEqual([engine.size, world.socket.closed], [1, undefined]);
  one.close();
  assert.deepEqual([engine.size, world.socket.closed], [0, 1000]);
});

test("signing out ends it for all; who comes later begins anew and alone", async () => {
  const { world, cities: [one, other], open } = await tabs(2);
  const states = told(other, "state");
  const waiting = other.send("guide", "hello");
  one.end();
  assert.equal(world.socket.closed, 1000);
  assert.equal(states.at(-1)[1].phase, "off");
  await assert.rejects(waiting, { code: "ended" });
  const heard = told(other, "message", "state");
  await open(["pillar:content"]);
  world.socket.says(welcome("c-9", { user_id: "bob", channels: {} }));
  await settled();
  assert.deepEqual(Object.keys(world.socket.last("subscribe").channels).sort(),
    ["connection:c-9", "pillar:content", "user:bob"]);
  assert.deepEqual(heard, []);
});

test("a revoked session ends it for all", async () => {
  const { world, cities } = await tabs(2);
  world.socket.ends(4501);
  assert.deepEqual(cities.map(({ state }) => state.phase), ["ended", "ended"]);
});

test("after a loss every tab goes on where it stood", async () => {
  const { world, cities } = await tabs(2);
  const heard = cities.map((city) => told(city, "message"));
  world.socket.says(publication(41));
  world.socket.ends(1012);
  world.clock.pass(500);
  world.socket.says(welcome("c-2"));
  const { id, channels } = world.socket.last("subscribe");
  assert.deepEqual(channels.guide, { offset: 41, epoch: "e" });
  world.socket.says({ type: "ack", id, channels: { guide: { offset: 41, epoch: "e", recovered: true, missed: 1 } } });
  world.socket.says(publication(42));
  assert.deepEqual(heard.map(offsets), [[41, 42], [41, 42]]);
});

test("a tab that comes back after a reload catches up on its private log alone", async () => {
  const { world, cities: [one, other], open } = await tabs(2);
  const past = structuredClone(other.keep());
  other.close();
  world.socket.says(publication(8, { channel: "user:alice", epoch: "u" }));
  const heard = told(one, "message");
  const again = await open(["guide"], past);
  const heardToo = told(again, "message");
  const { id, channels } = world.socket.last("subscribe");
  assert.deepEqual(channels, { "user:alice": { offset: 7, epoch: "u" } });
  world.socket.says({ type: "ack", id, channels: { "user:alice": { offset: 7, epoch: "u", recovered: true, missed: 1 } } });
  world.socket.says(publication(8, { channel: "user:alice", epoch: "u" }));
  assert.deepEqual([offsets(heard), offsets(heardToo)], [[], [8]]);
});
