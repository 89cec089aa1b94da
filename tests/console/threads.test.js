import assert from "node:assert/strict";
import { test } from "node:test";

import { MOST_ITEMS, Threads } from "../../platform/city_hall/console/client/threads.js";
import { connectedCity, publication, response, welcome } from "./world.js";

const words = (city, channel = "guide") => city.threads.of(channel).map((item) =>
  item.kind === "question" ? `? ${item.message.text}`
  : item.kind === "answer" ? `! ${item.answer.text}`
  : item.kind === "publication" ? `* ${item.body.text}` : item.text);

function ask(world, city, text, messageId) {
  city.say("guide", text);
  const { id } = world.socket.last("message");
  return () => world.socket.says({ type: "ack", id, status: "queued", message_id: messageId });
}

test("answers stand under their questions, whatever order they come in", () => {
  const { world, city } = connectedCity();
  ask(world, city, "first", "q-1")();
  ask(world, city, "second", "q-2")();
  world.socket.says(publication(41));
  world.socket.says(response({ in_reply_to: "q-2", message_id: "a-2", payload: { message: "two" } }));
  world.socket.says(response({ in_reply_to: "q-1", message_id: "a-1", payload: { message: "one" } }));
  assert.deepEqual(words(city), ["? first", "! one", "? second", "! two", "* news"]);
});

test("an answer faster than the ack finds its question when the ack comes", () => {
  const { world, city } = connectedCity();
  const acknowledge = ask(world, city, "first", "q-1");
  ask(world, city, "second", "q-2")();
  world.socket.says(response({ payload: { message: "one" } }));
  acknowledge();
  assert.deepEqual(words(city), ["? first", "! one", "? second"]);
  assert.deepEqual(city.threads.of("guide").map((item) => item.isAnswered), [true, undefined, false]);
});

test("an answer to a question asked elsewhere stands at the end", () => {
  const { world, city } = connectedCity();
  world.socket.says(response({ in_reply_to: "unknown", payload: { message: "late" }, log: "user:alice" }));
  assert.deepEqual(words(city), ["! late"]);
});

test("a publication that comes twice is shown once", () => {
  const { world, city } = connectedCity();
  world.socket.says(publication(41));
  world.socket.says(publication(41, { provisional: true, offset: undefined }));
  assert.equal(city.threads.of("guide").length, 1);
});

test("what is sent to a person has a place of its own", () => {
  const { world, city } = connectedCity();
  world.socket.says(publication(8, { channel: "user:alice" }));
  world.socket.says(publication(1, { channel: "connection:c-1", message_id: "direct" }));
  assert.deepEqual(words(city, "for you"), ["* news", "* news"]);
});

test("one conversation id lasts for a channel, and channels do not share it", () => {
  const { world, city } = connectedCity();
  for (const channel of ["guide", "guide", "pillar:content"]) city.say(channel, "hello");
  const ids = world.socket.sent.flatMap(({ payload }) => payload?.conversation_id ?? []);
  assert.equal(ids[0], ids[1]);
  assert.notEqual(ids[0], ids[2]);
});

test("a refusal that belongs to no message is told", () => {
  const { world, news } = connectedCity();
  world.socket.says({ type: "error", code: "overloaded", message: "x", retryable: true, retry_after: 2 });
  assert.deepEqual(news, ["Too much is waiting there already. Try again in 2 seconds."]);
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

test("messages typed offline go out after the subscriptions, once the connection is back", () => {
  const { world, city } = connectedCity();
  world.socket.ends(1006);
  city.say("guide", "still there?");
  assert.equal(world.sockets[0].sent.length, 1);
  world.clock.pass(250);
  world.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  assert.deepEqual(world.socket.sent.map(({ type = "message" }) => type), ["subscribe", "message"]);
});

test("a question that was handed on is answered where it was asked", () => {
  const { world, city } = connectedCity();
  ask(world, city, "which instances?", "q-1")();
  const handedOn = { channel: "pillar:operations", agent: "operations" };
  world.socket.says(response({ ...handedOn, stream: "start" }));
  world.socket.says(response({ ...handedOn, stream: "end", payload: { message: "one" } }));
  assert.deepEqual(words(city), ["? which instances?", "! one"]);
  assert.deepEqual(words(city, "pillar:operations"), []);
});

test("an answer that is handed on and faster than the ack moves to its question", () => {
  const { world, city } = connectedCity();
  const acknowledge = ask(world, city, "which instances?", "q-1");
  world.socket.says(response({ channel: "pillar:operations", payload: { message: "one" } }));
  acknowledge();
  assert.deepEqual(words(city), ["? which instances?", "! one"]);
  assert.deepEqual(words(city, "pillar:operations"), []);
});
