import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection, PROBE_MS, STEADY_MS, WELCOME_MS } from "../../platform/city_hall/console/client/connection.js";
import { pack } from "../../platform/city_hall/console/client/msgpack.js";
import { World, welcome } from "./world.js";

function started(luck = 0.5) {
  const world = new World({ luck });
  const connection = new Connection(world);
  const phases = [];
  connection.changed.listen(({ phase }) => phases.push(phase));
  connection.start();
  return { world, connection, phases };
}

function connected(luck) {
  const all = started(luck);
  all.world.socket.says(welcome());
  return all;
}

test("it is connected when the welcome came, not when the socket opened", () => {
  const { world, connection } = started();
  assert.equal(connection.state.phase, "connecting");
  world.socket.says(welcome());
  assert.equal(connection.state.phase, "connected");
});

test("it sends nothing before it is connected", () => {
  const { world, connection } = started();
  const frame = { type: "subscribe", channels: {}, id: "1" };
  assert.equal(connection.send(frame), false);
  world.socket.says(welcome());
  assert.equal(connection.send(frame), true);
  assert.deepEqual(world.socket.sent, [frame]);
});

test("after a loss it waits the jitter, says until when, and resumes its connection", () => {
  const { world, connection } = connected();
  world.clock.pass(STEADY_MS);
  world.socket.ends(1006);
  assert.equal(connection.state.phase, "waiting");
  assert.equal(connection.state.attempt, 1);
  assert.equal(connection.state.until, world.clock.now() + 250);
  world.clock.pass(249);
  assert.equal(world.sockets.length, 1);
  world.clock.pass(1);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.socket.resume, "c-1");
});

test("attempts that fail wait longer and longer", () => {
  const { world, connection } = started(0.999);
  const waits = [];
  for (let attempt = 1; attempt <= 8; attempt += 1) {
    world.socket.ends(1006);
    const wait = connection.state.until - world.clock.now();
    waits.push(Math.round(wait / 100) / 10);
    world.clock.pass(wait);
  }
  assert.deepEqual(waits, [0.5, 1, 2, 4, 8, 16, 20, 20]);
});

test("a connection that is welcomed and dropped at once does not begin counting anew", () => {
  const { world, connection } = connected();
  world.socket.ends(1011);
  world.clock.pass(250);
  world.socket.says(welcome());
  world.socket.ends(1011);
  assert.equal(connection.state.attempt, 2);
});

test("a steady connection begins counting anew", () => {
  const { world, connection } = started();
  world.socket.ends(1006);
  world.clock.pass(250);
  world.socket.says(welcome());
  world.clock.pass(STEADY_MS);
  world.socket.ends(1006);
  assert.equal(connection.state.attempt, 1);
});

test("a draining instance is left within a moment, but not in a loop", () => {
  const { world, connection } = connected();
  world.socket.ends(1012);
  assert.equal(connection.state.until - world.clock.now(), 100);
  world.clock.pass(100);
  assert.equal(world.sockets.length, 2);
  world.socket.ends(1012);
  assert.equal(connection.state.until - world.clock.now(), 500);
});

test("at capacity it stays away as long as it is asked to, and a little longer", () => {
  const { world, connection } = connected();
  world.socket.ends(1013, "retry_after=7");
  assert.equal(connection.state.until - world.clock.now(), 7250);
  connection.hurry();
  assert.equal(connection.state.phase, "waiting");
});

test("it ends for good when the session did", () => {
  const { world, connection } = connected();
  world.socket.ends(4501, "revoked");
  assert.equal(connection.state.phase, "ended");
  world.clock.pass(60_000);
  assert.equal(world.sockets.length, 1);
});

test("taken over by another tab, it comes back without the old id", () => {
  const { world } = connected();
  world.socket.ends(4010);
  world.clock.pass(250);
  assert.equal(world.socket.resume, "");
});

test("two heartbeats of silence are a loss; anything heard puts it off", () => {
  const { world, connection } = connected();
  world.clock.pass(40_000);
  world.socket.says({ type: "heartbeat" });
  world.clock.pass(49_999);
  assert.equal(connection.state.phase, "connected");
  world.clock.pass(1);
  assert.equal(connection.state.phase, "waiting");
  assert.equal(world.sockets[0].closed, 1005);
});

test("a hint makes a waiting connection come back, and a living one prove that it lives", () => {
  const { world, connection } = connected();
  connection.hurry();
  assert.deepEqual(world.socket.sent, [{ type: "ping" }]);
  world.socket.says({ type: "pong" });
  world.clock.pass(PROBE_MS);
  assert.equal(connection.state.phase, "connected");
  connection.hurry();
  world.clock.pass(PROBE_MS);
  assert.equal(connection.state.phase, "waiting");
  connection.hurry();
  assert.equal(connection.state.phase, "connecting");
});

test("a platform that never welcomes is left after a while", () => {
  const { world, connection } = started();
  world.clock.pass(WELCOME_MS);
  assert.equal(connection.state.phase, "waiting");
});

test("what an abandoned socket still brings is not heard", () => {
  const { world, connection, phases } = started();
  world.clock.pass(WELCOME_MS + 250);
  phases.length = 0;
  world.sockets[0].says(welcome("old"));
  world.sockets[0].ends(4501);
  assert.deepEqual(phases, []);
  assert.equal(connection.state.phase, "connecting");
});

test("reconnecting now does not wait, and does not wait twice", () => {
  const { world, connection } = connected();
  world.socket.ends(1006);
  connection.reconnectNow();
  assert.equal(world.sockets.length, 2);
  world.clock.pass(5_000);
  assert.equal(world.sockets.length, 2);
  connection.reconnectNow();
  assert.equal(world.sockets.length, 2);
});

test("a renewed session takes a new socket under the same id at once", () => {
  const { world, connection } = connected();
  world.clock.pass(STEADY_MS);
  connection.renew();
  world.clock.pass(0);
  assert.equal(world.sockets.length, 2);
  assert.equal(world.socket.resume, "c-1");
});

test("stopping says goodbye and leaves no timer behind", () => {
  const { world, connection } = connected();
  connection.stop();
  assert.equal(world.socket.closed, 1000);
  assert.equal(world.clock.waiting, 0);
  assert.equal(connection.state.phase, "off");
});

test("frames that are no frames are shown and passed over", () => {
  const { world, connection } = connected();
  const passed = [];
  connection.passed.listen(({ text }) => passed.push(text));
  world.socket.onmessage({ data: "}{" });
  world.socket.onmessage({ data: "[1]" });
  assert.deepEqual(passed, ["}{", "[1]"]);
  assert.equal(connection.state.phase, "connected");
});

test("it speaks MessagePack where the platform's welcome came so, and shows frames as JSON", () => {
  const { world, connection } = started();
  const passed = [];
  connection.passed.listen(({ direction, text }) => direction !== "note" && passed.push([direction, JSON.parse(text).type]));
  const sent = [];
  world.socket.send = (data) => sent.push(data);
  world.socket.onmessage({ data: pack(welcome()).slice().buffer });
  connection.send({ type: "ping" });
  assert.deepEqual(sent, [pack({ type: "ping" })]);
  assert.deepEqual(passed, [["in", "system"], ["out", "ping"]]);
});

test("a token on its way is not among what is shown of the frames", () => {
  const { connection } = connected();
  const passed = [];
  connection.passed.listen(({ text }) => passed.push(text));
  connection.send({ type: "refresh", session_token: "ses_secret", id: "1" });
  assert.equal(passed.length, 1);
  assert.doesNotMatch(passed[0], /ses_secret/);
});
