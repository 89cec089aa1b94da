/**
 * Tabs that come and go, cuts, and a platform that answers whenever it likes, in many random orders: every tab hears
 * everything after its position, in order, once.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Engine } from "../../platform/city_hall/console/client/engine.js";
import { City } from "../../platform/city_hall/console/client/index.js";
import { World, publication, welcome } from "./world.js";

/** The same numbers for the same seed, each in [0, 1). */
function chance(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** One channel's log, and sockets that are told of it when the test lets them. */
class Platform {
  length = 0;
  #world;
  #connections = 0;
  /** For each socket: how many frames were read, what waits to be said, and up to where the log was queued. */
  #lines = new Map();

  constructor(world) {
    this.#world = world;
  }

  publish() {
    this.length += 1;
    for (const line of this.#lines.values()) if (line.at !== null) this.#queue(line);
  }

  /** Does the next thing that this socket waits for. @returns {boolean} whether there was one */
  step() {
    const { socket } = this.#world;
    if (!socket || socket.closed !== undefined || socket.isCut) return false;
    if (!this.#lines.has(socket)) this.#welcome(socket);
    const line = this.#lines.get(socket);
    if (line.read < socket.sent.length) return this.#read(line, socket.sent[line.read++]);
    if (line.queue.length === 0) return false;
    socket.says(line.queue.shift());
    return true;
  }

  cut() {
    const { socket } = this.#world;
    if (!socket || socket.isCut || socket.closed !== undefined) return;
    socket.isCut = true;
    this.#lines.delete(socket);
    socket.ends(1006);
  }

  #welcome(socket) {
    this.#lines.set(socket, { read: 0, queue: [], at: null });
    socket.says(welcome(`c-${(this.#connections += 1)}`, { max_message_bytes: 1 << 20 }));
  }

  #read(line, { type, id, channels }) {
    if (type === "unsubscribe") line.at = null;
    if (type !== "subscribe") return true;
    const since = channels.guide ?? null;
    const answers = Object.fromEntries(Object.entries(channels).map(([log, position]) =>
      [log, { ...position, recovered: true, missed: 0 }]));
    if ("guide" in channels) {
      line.at = since ? since.offset : this.length;
      const recovery = since ? { recovered: true, missed: this.length - since.offset } : {};
      answers.guide = { offset: line.at, epoch: "e", ...recovery };
    }
    line.queue.push({ type: "ack", id, channels: answers });
    this.#queue(line);
    return true;
  }

  #queue(line) {
    while (line.at !== null && line.at < this.length) line.queue.push(publication((line.at += 1)));
  }
}

async function history(seed) {
  const random = chance(seed);
  const world = new World({ luck: 0.1 });
  const engine = new Engine(world);
  const platform = new Platform(world);
  const tabs = [];
  const open = async () => {
    const since = Math.floor(random() * (platform.length + 1));
    const city = new City("http://city.test", { world, through: (tell) => engine.attach(tell) });
    const heard = [];
    city.on("message", ({ channel, offset }) => channel === "guide" && heard.push(offset));
    city.on("reset", ({ reason }) => heard.push(reason));
    city.subscribe("guide", { since: { offset: since, epoch: "e" } });
    tabs.push({ city, since, heard });
    await null;
  };
  const actions = [
    [0.45, () => platform.step()], [0.25, () => platform.publish()], [0.06, () => platform.cut()],
    [0.12, () => world.clock.pass(400)], [0.08, () => tabs.length < 6 && open()],
    [0.04, () => tabs.length > 1 && tabs.splice(Math.floor(random() * tabs.length), 1)[0].city.close()],
  ];
  await open();
  for (let count = 0; count < 150; count += 1) {
    let left = random();
    await actions.find(([weight]) => (left -= weight) < 0)?.[1]();
  }
  for (let count = 0; count < 40; count += 1) {
    world.clock.pass(1_000);
    while (platform.step());
  }
  for (const { since, heard } of tabs) {
    assert.deepEqual(heard, Array.from({ length: platform.length - since }, (_, index) => since + 1 + index), `seed ${seed}`);
  }
}

test("every tab hears everything after its position, in order, once, whatever happens", async () => {
  for (let seed = 1; seed <= 200; seed += 1) await history(seed);
});
