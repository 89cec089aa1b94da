import assert from "node:assert/strict";
import { test } from "node:test";

import {
  FrameLog, MOST_ENTRIES, MOST_TEXT, MOST_TEXT_TOGETHER, matches, pretty,
} from "../../platform/city_hall/console/model/frame_log.js";

function logged(frame, direction = "in") {
  const log = new FrameLog();
  log.add({ direction, text: typeof frame === "string" ? frame : JSON.stringify(frame) }, 0);
  return log.entries[0];
}

test("only the latest frames are kept", () => {
  const log = new FrameLog();
  for (let count = 0; count < MOST_ENTRIES + 3; count += 1) log.add({ direction: "in", text: "{}" }, count);
  assert.equal(log.entries.length, MOST_ENTRIES);
  assert.equal(log.entries[0].at, 3);
});

test("large frames are cut, and many of them push the oldest out", () => {
  const log = new FrameLog();
  const text = JSON.stringify({ type: "message", payload: { message: "x".repeat(MOST_TEXT) } });
  for (let count = 0; count < 100; count += 1) log.add({ direction: "in", text }, count);
  const together = log.entries.reduce((sum, entry) => sum + entry.text.length, 0);
  assert.ok(together <= MOST_TEXT_TOGETHER);
  assert.equal(log.entries.at(-1).bytes, text.length);
});

test("a row is called after its type and what tells one of its kind from another", () => {
  assert.equal(logged({ type: "system", event: "welcome" }).type, "system · welcome");
  assert.equal(logged({ type: "chat_response", stream: "delta" }).type, "chat_response · delta");
  assert.equal(logged({ type: "ack", status: "queued" }).type, "ack · queued");
  assert.equal(logged({ channel: "guide", payload: {} }, "out").type, "message");
  assert.equal(logged("}{").type, "not JSON");
});

test("sizes are bytes, not characters", () => {
  assert.equal(logged('{"type":"é"}').bytes, 13);
});

test("tokens are never shown, wherever they stand", () => {
  const secret = "ses_7f.abcDEF-123_x";
  const frames = [
    { type: "refresh", session_token: secret },
    { type: "message", payload: { headers: { Authorization: `Bearer ${secret}` } } },
    { type: "message", payload: { message: `my token is ${secret}, keep it` } },
    { type: "message", payload: { deep: [{ password: "hunter2" }] } },
  ];
  frames.push(...["svc", "tkt", "op"].map((kind) => ({ type: "message", payload: { message: `${kind}_K3abcDEF-9` } })));
  for (const frame of frames) {
    const { text } = logged(frame);
    assert.equal(text.includes("abcDEF"), false, text);
    assert.equal(text.includes("hunter2"), false, text);
  }
  assert.equal(logged(`not JSON but ${secret}`).text.includes("abcDEF"), false);
});

test("words about tokens are no tokens", () => {
  const frame = { type: "message", payload: { message: "a token bucket", tokens_used: 12 } };
  assert.deepEqual(JSON.parse(logged(frame).text), frame);
});

test("a filter wants all its words, in any case and anywhere", () => {
  const entry = logged({ type: "ack", status: "queued", message_id: "M-7" });
  assert.equal(matches(entry, ""), true);
  assert.equal(matches(entry, "ACK m-7"), true);
  assert.equal(matches(entry, "ack m-8"), false);
});

test("what is JSON is set over lines, what is not stays as it is", () => {
  assert.equal(pretty('{"a":1}'), '{\n  "a": 1\n}');
  assert.equal(pretty('{"a":1…'), '{"a":1…');
});
