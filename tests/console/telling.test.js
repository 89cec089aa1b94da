import assert from "node:assert/strict";
import { test } from "node:test";

import { connected, join, publication } from "./talking.js";

function reconnect(world) {
  world.socket.ends(1006);
  world.clock.pass(250);
}

test("caught up is said when the last missed message is here, not before", async () => {
  const { world, news } = await connected();
  reconnect(world);
  join(world.socket, { outcomes: {
    guide: { offset: 40, epoch: "e", recovered: true, missed: 2 },
    "pillar:content": { offset: 40, epoch: "e", recovered: true, missed: 1 },
  } });
  world.socket.says(publication(41));
  world.socket.says(publication(42));
  assert.deepEqual(news, []);
  world.socket.says(publication(41, { channel: "pillar:content" }));
  assert.deepEqual(news, ["Caught up: 3 messages."]);
});

test("nothing missed is said too", async () => {
  const { world, news } = await connected();
  reconnect(world);
  const kept = { offset: 40, epoch: "e", recovered: true, missed: 0 };
  join(world.socket, { outcomes: { guide: kept, "pillar:content": kept } });
  assert.deepEqual(news, ["Caught up: nothing was missed."]);
});

test("a stretch that cannot be recovered is told with its reason, and marked where it is missing", async () => {
  const { world, talk, news } = await connected();
  reconnect(world);
  const trimmed = { offset: 90, epoch: "f", recovered: false, reason: "trimmed" };
  const kept = { offset: 40, epoch: "e", recovered: true, missed: 0 };
  join(world.socket, { outcomes: { guide: trimmed, "pillar:content": kept } });
  assert.deepEqual(news, ["Could not recover Guide: the history does not reach back that far."]);
  assert.deepEqual(talk.threads.of("guide").map(({ kind }) => kind), ["notice"]);
});

test("a reset marks what it broke", async () => {
  const { world, talk } = await connected();
  world.socket.says({ type: "reset", channel: "guide", offset: 60, epoch: "g", reason: "trimmed" });
  assert.equal(talk.threads.of("guide").at(-1).kind, "notice");
});

test("a channel that is only away for the moment is told once, however often it is asked for", async () => {
  const { world, talk } = await connected();
  reconnect(world);
  const away = { error: { code: "unavailable", message: "Valkey is away" } };
  join(world.socket, { outcomes: { guide: away } });
  world.clock.pass(500);
  const { id } = world.socket.last("subscribe");
  world.socket.says({ type: "ack", id, channels: { guide: away } });
  assert.deepEqual(talk.threads.of("guide").map(({ kind }) => kind), ["notice"]);
});

test("a refusal that belongs to no message is told", async () => {
  const { world, news } = await connected();
  world.socket.says({ type: "error", code: "overloaded", message: "x", retryable: true, retry_after: 2 });
  assert.deepEqual(news, ["Too much is waiting there already. Try again in 2 seconds."]);
});

test("that the session ends soon is handed on", async () => {
  const { world, talk } = await connected();
  const told = [];
  talk.expiring.listen((at) => told.push(at));
  const at = "2026-11-20T10:00:00Z";
  world.socket.says({ type: "system", event: "session_expiring", expires_at: at });
  assert.deepEqual(told, [at]);
});
