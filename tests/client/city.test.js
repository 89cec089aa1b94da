import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { City, CityError } from "../../platform/city_hall/console/client/index.js";
import { MOST_UNREAD } from "../../platform/city_hall/console/client/listening.js";
import { World, acknowledge, connectedCity, join, publication, response, settled, told, welcome } from "./world.js";

const code = (expected) => (error) => error instanceof CityError && error.code === expected;

async function take(reader, count) {
  const messages = [];
  for await (const message of reader) if (messages.push(message) === count) break;
  return messages;
}

test("it connects once whoever made it has had a turn, and subscribes in one frame", async () => {
  const world = new World();
  const city = new City("http://city.test", { world, token: "ses_x" });
  const states = told(city, "state");
  city.subscribe("guide");
  city.listen(["pillar:content"], { since: "41.e" });
  await null;
  assert.deepEqual([states[0][1].phase, world.socket.token], ["connecting", "ses_x"]);
  world.socket.says(welcome());
  assert.deepEqual(world.socket.sent.map(({ channels }) => channels), [
    { guide: null, "pillar:content": { offset: 41, epoch: "e" } },
  ]);
  assert.deepEqual([city.userId, city.connectionId], ["alice", "c-1"]);
});

test("asking gives the whole answer to who awaits it, and its parts to who iterates", async () => {
  const { world, city } = await connectedCity();
  const asking = city.ask("guide", "Who is there?", { conversationId: "talk" });
  const parts = (async () => {
    const all = [];
    for await (const part of asking) all.push(String(part));
    return all;
  })();
  const { payload, intent } = world.socket.last("message");
  assert.deepEqual([payload, intent], [{ message: "Who is there?", conversation_id: "talk" }, "chat"]);
  acknowledge(world);
  await settled();
  world.socket.says(response({ stream: "start" }));
  world.socket.says(response({ stream: "delta", part: 1, payload: { message: "Just " } }));
  await settled();
  world.socket.says(response({ stream: "end", payload: { message: "Just you.", count: 1 }, conversation_id: "talk" }));
  assert.deepEqual(await parts, ["Just ", "you."]);
  const reply = await asking;
  assert.deepEqual([`${reply}`, reply.payload.count, reply.agent, reply.inReplyTo, reply.conversationId],
    ["Just you.", 1, "guide", "q-1", "talk"]);
});

test("an answer that is faster than its question's ack is not lost", async () => {
  const { world, city } = await connectedCity();
  const asking = city.ask("guide", "hello");
  world.socket.says(response({ payload: { message: "Hello!" } }));
  acknowledge(world);
  assert.equal((await asking).text, "Hello!");
});

test("a further attempt begins anew, and says so", async () => {
  const { world, city } = await connectedCity();
  const asking = city.ask("guide", "hello");
  acknowledge(world);
  await settled();
  const parts = [];
  const reading = (async () => {
    for await (const { text, restarts } of asking) parts.push([text, restarts]);
  })();
  world.socket.says(response({ stream: "start" }));
  world.socket.says(response({ stream: "delta", part: 1, payload: { message: "Hel" } }));
  await settled();
  world.socket.says(response({ stream: "error", retrying: true, error: { code: "internal", message: "died" } }));
  world.socket.says(response({ message_id: "a-2", stream: "start" }));
  world.socket.says(response({ message_id: "a-2", stream: "end", payload: { message: "Good day." } }));
  await reading;
  assert.deepEqual(parts, [["Hel", false], ["Good day.", true]]);
});

test("an answer that fails rejects with the agent's code, one of which nothing is heard with no_answer", async () => {
  const { world, city } = await connectedCity();
  const failing = city.ask("guide", "hello");
  acknowledge(world);
  world.socket.says(response({ stream: "error", error: { code: "internal", message: "died" } }));
  await assert.rejects(async () => failing, code("internal"));
  const forgotten = city.ask("guide", "hello", { seconds: 5 });
  acknowledge(world, "q-2");
  await settled();
  world.clock.pass(5_000);
  await assert.rejects(async () => forgotten, code("no_answer"));
});

test("a question that was given up is forgotten", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc");
  const { world, city } = await connectedCity();
  const unanswered = async () => {
    const asking = city.ask("guide", "hello", { seconds: 5 });
    acknowledge(world);
    await settled();
    world.clock.pass(5_000);
    await assert.rejects(async () => asking, code("no_answer"));
    return new WeakRef(asking);
  };
  const asking = await unanswered();
  await settled();
  collectGarbage();
  assert.equal(asking.deref(), undefined);
  city.close();
});

test("a refused question rejects, and so does one that is called off", async () => {
  const { world, city } = await connectedCity();
  const refused = city.ask("guide", "hello");
  const { id } = world.socket.last("message");
  world.socket.says({ type: "error", id, code: "forbidden", message: "no", retryable: false });
  await assert.rejects(async () => refused, code("forbidden"));
  const ended = new AbortController();
  const calledOff = city.ask("guide", "hello", { signal: ended.signal });
  ended.abort();
  await assert.rejects(async () => calledOff, { name: "AbortError" });
});

test("sending resolves with what became of it", async () => {
  const { world, city } = await connectedCity();
  const sent = city.send("guide", { message: "hello" }, { key: "k-1", intent: "command" });
  acknowledge(world, "q-1", { duplicate: true });
  assert.deepEqual(await sent, {
    status: "queued", messageId: "q-1", channel: "guide", key: "k-1", position: null, isDuplicate: true,
  });
  const published = city.publish("guide", "news");
  assert.equal(world.socket.last("publish").payload.message, "news");
  const { id } = world.socket.last("publish");
  world.socket.says({ type: "ack", id, channel: "guide", status: "published", message_id: "m", offset: 41, epoch: "e" });
  assert.deepEqual((await published).position, { offset: 41, epoch: "e" });
});

test("sent offline it waits, goes out once, and resolves; called off it never goes", async () => {
  const { world, city } = await connectedCity();
  world.socket.ends(1006);
  const sent = city.send("guide", "later");
  const ended = new AbortController();
  const calledOff = city.send("guide", "never", { signal: ended.signal });
  ended.abort();
  await assert.rejects(calledOff, { name: "AbortError" });
  world.clock.pass(250);
  join(world.socket, { id: "c-2" });
  assert.deepEqual(world.socket.sent.filter(({ payload }) => payload).map(({ payload }) => payload.message), ["later"]);
  acknowledge(world);
  assert.equal((await sent).messageId, "q-1");
});

test("a refusal that passes is not told while it is met by sending again", async () => {
  const { world, city } = await connectedCity();
  const sent = city.send("guide", "hello");
  const first = world.socket.last("message");
  world.socket.says({ type: "error", id: first.id, code: "rate_limited", message: "", retryable: true, retry_after: 1 });
  world.clock.pass(1_000);
  assert.equal(world.socket.sent.filter(({ key }) => key === first.key).length, 2);
  acknowledge(world);
  assert.equal((await sent).status, "queued");
});

test("listening yields publications with their positions, each once", async () => {
  const { world, city } = await connectedCity([]);
  const reader = city.listen("guide");
  const taken = take(reader, 3);
  const { id } = world.socket.last("subscribe");
  world.socket.says({ type: "ack", id, channels: { guide: { offset: 40, epoch: "e" } } });
  for (const offset of [41, 42, 42, 41, 43]) world.socket.says(publication(offset));
  assert.deepEqual((await taken).map(({ offset, epoch }) => `${offset}.${epoch}`), ["41.e", "42.e", "43.e"]);
  assert.deepEqual(reader.positions.get("guide"), { offset: 43, epoch: "e" });
  assert.deepEqual(world.socket.last("unsubscribe").channels, ["guide"]);
});

test("what is provisional is told once, when it has its place", async () => {
  const { world, city } = await connectedCity();
  const messages = told(city, "message");
  const { offset, epoch, ...ahead } = publication(41);
  world.socket.says({ ...ahead, provisional: true });
  world.socket.says({ type: "withdrawn", channel: "guide", message_id: "another" });
  assert.equal(messages.length, 0);
  world.socket.says({ ...ahead, offset, epoch });
  assert.equal(messages.length, 1);
});

test("what is held resolves with its last word, and is not sent again meanwhile", async () => {
  const { world, city } = await connectedCity();
  const sending = city.send("guide", { message: "later" });
  await settled();
  acknowledge(world, "m-1", { status: "held" });
  world.socket.says({ type: "heartbeat" });
  await settled();
  assert.equal(world.socket.sent.filter(({ payload }) => payload).length, 1);
  acknowledge(world, "m-1", { status: "queued" });
  assert.equal((await sending).status, "queued");
});

test("what could not be recovered is told with the next publication, and as an event", async () => {
  const { world, city } = await connectedCity([]);
  const resets = told(city, "reset");
  const taken = take(city.listen("guide", { since: { offset: 3, epoch: "d" } }), 2);
  const { id } = world.socket.last("subscribe");
  const lost = { offset: 40, epoch: "e", recovered: false, reason: "trimmed" };
  world.socket.says({ type: "ack", id, channels: { guide: lost } });
  world.socket.says(publication(41));
  world.socket.says(publication(42));
  const gaps = (await taken).map(({ gap }) => gap);
  assert.deepEqual(gaps, [{ reason: "trimmed", after: { offset: 3, epoch: "d" } }, null]);
  assert.equal(resets.length, 1);
});

test("a reader that is too slow is left behind, and goes on from the log", async () => {
  const { world, city } = await connectedCity([]);
  const reader = city.listen("guide");
  const answer = (more) => {
    const { id } = world.socket.last("subscribe");
    world.socket.says({ type: "ack", id, channels: { guide: { offset: 0, epoch: "e", ...more } } });
  };
  answer();
  for (let offset = 1; offset <= MOST_UNREAD + 5; offset += 1) world.socket.says(publication(offset));
  assert.equal(reader.unread, MOST_UNREAD);
  assert.deepEqual(world.socket.last("unsubscribe").channels, ["guide"]);
  for (let offset = 1; offset <= MOST_UNREAD; offset += 1) assert.equal((await reader.next()).value.offset, offset);
  const next = reader.next();
  assert.deepEqual(world.socket.last("subscribe").channels.guide, { offset: MOST_UNREAD, epoch: "e" });
  answer({ offset: MOST_UNREAD, recovered: true, missed: 5 });
  world.socket.says(publication(MOST_UNREAD + 1));
  const { value } = await next;
  assert.deepEqual([value.offset, value.gap], [MOST_UNREAD + 1, null]);
});

test("a channel that is refused ends its reader with the code", async () => {
  const { world, city } = await connectedCity([]);
  const taken = take(city.listen(["guide", "pillar:content"]), 1);
  const { id } = world.socket.last("subscribe");
  const refused = { error: { code: "forbidden", message: "not yours" } };
  world.socket.says({ type: "ack", id, channels: { guide: refused, "pillar:content": { offset: 1, epoch: "e" } } });
  await assert.rejects(taken, code("forbidden"));
  assert.deepEqual(world.socket.last("unsubscribe").channels, ["pillar:content"]);
});

test("one channel has one reader, and positions have a form", async () => {
  const { city } = await connectedCity(["guide"]);
  assert.throws(() => city.listen("guide"), TypeError);
  assert.throws(() => city.listen("pillar:content", { since: "soon" }), TypeError);
  assert.throws(() => city.listen(["a", "b"], { since: "1.e" }), TypeError);
});

test("what is sent to a person is told without being asked for, and its position kept", async () => {
  const { world, city } = await connectedCity([]);
  const messages = told(city, "message");
  world.socket.says(publication(8, { channel: "user:alice", epoch: "u" }));
  assert.deepEqual(messages.map(([, { channel, offset }]) => [channel, offset]), [["user:alice", 8]]);
  assert.deepEqual(new Map(city.keep().positions).get("user:alice"), { offset: 8, epoch: "u" });
});

test("a later life of the page goes on where this one stopped", async () => {
  const { world, city } = await connectedCity(["guide"]);
  world.socket.says(publication(41));
  const past = structuredClone(city.keep());
  const again = new World();
  const later = new City("http://city.test", { world: again, past });
  later.subscribe("guide");
  await null;
  assert.equal(again.socket.resume, "c-1");
  again.socket.says(welcome("c-1", { resumed: true, channels: {} }));
  assert.deepEqual(again.socket.last("subscribe").channels, {
    guide: { offset: 41, epoch: "e" }, "connection:c-1": { offset: 0, epoch: "" }, "user:alice": { offset: 7, epoch: "u" },
  });
});

test("the end of the session ends everything that waits, with one code", async () => {
  const { world, city } = await connectedCity(["pillar:content"]);
  const states = told(city, "state");
  const reading = take(city.listen("guide"), 1);
  const sending = city.send("guide", "hello");
  world.socket.ends(4501, "revoked");
  await assert.rejects(reading, code("ended"));
  await assert.rejects(sending, code("ended"));
  assert.equal(states.at(-1)[1].phase, "ended");
  city.reconnect();
  assert.equal(world.sockets.length, 2);
  world.socket.says(welcome("c-2"));
  assert.deepEqual(Object.keys(world.socket.last("subscribe").channels), ["pillar:content"]);
});

test("closing says goodbye, ends readers quietly and refuses what comes later", async () => {
  const { world, city } = await connectedCity([]);
  const reading = take(city.listen("guide"), 1);
  city.close();
  assert.equal(world.socket.closed, 1000);
  assert.deepEqual(await reading, []);
  await assert.rejects(city.send("guide", "hello"), code("ended"));
  assert.equal(world.clock.waiting, 0);
});

test("a new token goes to the platform at once, and with every later socket", async () => {
  const { world, city } = await connectedCity([]);
  const refreshed = city.refresh("ses_new");
  const { id, session_token: token } = world.socket.last("refresh");
  assert.equal(token, "ses_new");
  world.socket.says({ type: "ack", id });
  await refreshed;
  world.socket.ends(1012);
  world.clock.pass(500);
  assert.equal(world.socket.token, "ses_new");
});

test("a refused token is told, and the old one stays", async () => {
  const { world, city } = await connectedCity([], { token: "ses_old" });
  const refreshed = city.refresh("ses_else");
  const { id } = world.socket.last("refresh");
  world.socket.says({ type: "error", id, code: "forbidden", message: "another user's", retryable: false });
  await assert.rejects(refreshed, code("forbidden"));
  world.socket.ends(1012);
  world.clock.pass(500);
  assert.equal(world.socket.token, "ses_old");
});

test("a token taken offline goes with the next socket", async () => {
  const { world, city } = await connectedCity([]);
  world.socket.ends(1006);
  await city.refresh("ses_new");
  world.clock.pass(500);
  assert.equal(world.socket.token, "ses_new");
});

test("a reader is ready when the platform has answered, or not at all", async () => {
  const { world, city } = await connectedCity([]);
  const [reader, other] = [city.listen("guide"), city.listen("pillar:x")];
  const [one, two] = world.socket.sent.map(({ id }) => id);
  world.socket.says({ type: "ack", id: one, channels: { guide: { offset: 40, epoch: "e" } } });
  world.socket.says({ type: "ack", id: two, channels: { "pillar:x": { error: { code: "forbidden", message: "" } } } });
  await reader.ready;
  await assert.rejects(other.ready, code("forbidden"));
});

test("a listener that throws breaks nothing", async (context) => {
  const { world, city } = await connectedCity(["guide"]);
  const uncaught = [];
  context.mock.method(globalThis, "queueMicrotask", (task) => {
    try {
      task();
    } catch (error) {
      uncaught.push(error.message);
    }
  });
  city.on("message", () => {
    throw new Error("mine");
  });
  const messages = told(city, "message");
  world.socket.says(publication(41));
  assert.deepEqual([messages.length, uncaught], [1, ["mine"]]);
});

test("a signal ends reading, before it has begun too, and is let go with what it could end", async () => {
  const { world, city } = await connectedCity([]);
  const ended = new AbortController();
  const reading = take(city.listen("guide", { signal: ended.signal }), 1);
  ended.abort();
  assert.deepEqual(await reading, []);
  assert.deepEqual(await take(city.listen("guide", { signal: ended.signal }), 1), []);
  const { signal } = new AbortController();
  const [add, remove] = ["addEventListener", "removeEventListener"].map((name) => {
    const calls = [];
    const own = signal[name].bind(signal);
    signal[name] = (...args) => {
      calls.push(args);
      own(...args);
    };
    return calls;
  });
  const sent = city.send("guide", "hello", { signal });
  acknowledge(world);
  await sent;
  assert.deepEqual([add.length, remove.length], [1, 1]);
});

test("a token taken before the first socket opens it", async () => {
  const world = new World();
  const city = new City("http://city.test", { world, token: "ses_old" });
  await city.refresh("ses_new");
  await settled();
  assert.equal(world.socket.token, "ses_new");
});
