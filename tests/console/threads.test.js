import assert from "node:assert/strict";
import { test } from "node:test";

import { MOST_ITEMS, Threads } from "../../platform/city_hall/console/model/threads.js";
import { connected, publication, response, welcome } from "./talking.js";

const words = (talk, channel = "guide") => talk.threads.of(channel).map((item) =>
  item.kind === "question" ? `? ${item.message.text}`
  : item.kind === "answer" ? `! ${item.answer.text}`
  : item.kind === "publication" ? `* ${item.body.text}` : item.text);

function ask(world, talk, text, messageId) {
  talk.say("guide", text);
  const { id } = world.socket.last("message");
  return () => world.socket.says({ type: "ack", id, status: "queued", message_id: messageId });
}

test("answers stand under their questions, whatever order they come in", async () => {
  const { world, talk } = await connected();
  ask(world, talk, "first", "q-1")();
  ask(world, talk, "second", "q-2")();
  world.socket.says(publication(41));
  world.socket.says(response({ in_reply_to: "q-2", message_id: "a-2", payload: { message: "two" } }));
  world.socket.says(response({ in_reply_to: "q-1", message_id: "a-1", payload: { message: "one" } }));
  assert.deepEqual(words(talk), ["? first", "! one", "? second", "! two", "* news"]);
});

test("an answer faster than the ack finds its question when the ack comes", async () => {
  const { world, talk } = await connected();
  const acknowledge = ask(world, talk, "first", "q-1");
  ask(world, talk, "second", "q-2")();
  world.socket.says(response({ payload: { message: "one" } }));
  acknowledge();
  assert.deepEqual(words(talk), ["? first", "! one", "? second"]);
  assert.deepEqual(talk.threads.of("guide").map((item) => item.isAnswered), [true, undefined, false]);
});

test("an answer to a question asked elsewhere stands at the end", async () => {
  const { world, talk } = await connected();
  world.socket.says(response({ in_reply_to: "unknown", payload: { message: "late" }, log: "user:alice" }));
  assert.deepEqual(words(talk), ["! late"]);
});

test("a publication that comes twice is shown once", async () => {
  const { world, talk } = await connected();
  world.socket.says(publication(41));
  world.socket.says(publication(41, { provisional: true, offset: undefined }));
  assert.equal(talk.threads.of("guide").length, 1);
});

test("what is sent to a person has a place of its own", async () => {
  const { world, talk } = await connected();
  world.socket.says(publication(8, { channel: "user:alice" }));
  world.socket.says(publication(1, { channel: "connection:c-1", message_id: "direct" }));
  assert.deepEqual(words(talk, "for you"), ["* news", "* news"]);
});

test("one conversation id lasts for a channel, and channels do not share it", async () => {
  const { world, talk } = await connected();
  for (const channel of ["guide", "guide", "pillar:content"]) talk.say(channel, "hello");
  const ids = world.socket.sent.flatMap(({ payload }) => payload?.conversation_id ?? []);
  assert.equal(ids[0], ids[1]);
  assert.notEqual(ids[0], ids[2]);
});

test("a conversation keeps its latest items only", () => {
  const threads = new Threads();
  for (let count = 0; count < MOST_ITEMS + 5; count += 1) {
    const sender = { kind: "service", id: "s" };
    threads.publication("guide", { id: `${count}`, at: 0, sender, body: { text: "", data: "" } });
  }
  assert.equal(threads.of("guide").length, MOST_ITEMS);
  assert.equal(threads.of("guide")[0].id, "5");
});

test("messages typed offline go out after the subscriptions, once the connection is back", async () => {
  const { world, talk } = await connected();
  world.socket.ends(1006);
  talk.say("guide", "still there?");
  assert.equal(world.sockets[0].sent.length, 1);
  world.clock.pass(250);
  world.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  assert.deepEqual(world.socket.sent.map(({ type = "message" }) => type), ["subscribe", "message"]);
});

test("a question that was handed on is answered where it was asked", async () => {
  const { world, talk } = await connected();
  ask(world, talk, "which instances?", "q-1")();
  const handedOn = { channel: "pillar:operations", agent: "operations" };
  world.socket.says(response({ ...handedOn, stream: "start" }));
  world.socket.says(response({ ...handedOn, stream: "end", payload: { message: "one" } }));
  assert.deepEqual(words(talk), ["? which instances?", "! one"]);
  assert.deepEqual(words(talk, "pillar:operations"), []);
});

test("an answer that is handed on and faster than the ack moves to its question", async () => {
  const { world, talk } = await connected();
  const acknowledge = ask(world, talk, "which instances?", "q-1");
  world.socket.says(response({ channel: "pillar:operations", payload: { message: "one" } }));
  acknowledge();
  assert.deepEqual(words(talk), ["? which instances?", "! one"]);
  assert.deepEqual(words(talk, "pillar:operations"), []);
});
