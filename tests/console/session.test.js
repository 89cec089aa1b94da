import assert from "node:assert/strict";
import { test } from "node:test";

import { SessionError, look, open } from "../../platform/city_hall/console/model/session.js";

const answering = (status, body) => async (...asked) => {
  answering.asked = asked;
  return new Response(body, { status });
};

test("signing in sends who one is, with the browser's own cookies", async () => {
  const opened = '{"user_id":"alice","expires_at":"2026-11-20T10:00:00.000Z"}';
  const session = await open("alice", answering(200, opened));
  assert.equal(session.user_id, "alice");
  const [path, { method, credentials, body }] = answering.asked;
  assert.deepEqual([path, method, credentials], ["/console/session", "POST", "same-origin"]);
  assert.equal(body, '{"user_id":"alice"}');
});

test("a refusal is told in the platform's own sentence", async () => {
  const refused = open("alice", answering(403, '{"detail":"not from here"}'));
  await assert.rejects(refused, new SessionError("not from here"));
});

test("an answer that is no JSON is named by its status", async () => {
  await assert.rejects(look(answering(502, "<html>")), /502/);
});

test("no answer at all is told as that", async () => {
  const away = async () => { throw new TypeError("fetch failed"); };
  await assert.rejects(look(away), SessionError);
});
