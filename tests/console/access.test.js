import assert from "node:assert/strict";
import { test } from "node:test";

import { OperationError } from "../../platform/city_hall/console/client/index.js";
import { Access } from "../../platform/city_hall/console/model/access.js";

const IDENTITY = {
  kind: "service", id: "console", credential: "t1", scopes: ["post_office.observe"], channels: {},
};

function world(answers) {
  const kept = new Map();
  const timers = [];
  const asked = [];
  const storage = {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => kept.set(name, value),
    removeItem: (name) => kept.delete(name),
  };
  const ask = async (token, name, args) => {
    asked.push({ token, name, args });
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const clock = {
    now: () => 0,
    after: (wait, then) => {
      timers.push({ wait, then });
      return () => timers.pop();
    },
  };
  return { kept, timers, asked, access: new Access({ storage, ask, clock, random: () => 0.5 }) };
}

const unauthenticated = () => new OperationError("no", { code: "unauthenticated", status: 401 });

test("a token is kept for this tab once the platform knows it, and tells what it may", async () => {
  const { access, kept, asked } = world([IDENTITY]);
  await access.use("  Bearer svc_secret \n");
  assert.equal(access.state.phase, "open");
  assert.deepEqual(asked, [{ token: "svc_secret", name: "traffic_cop.get_caller_identity", args: undefined }]);
  assert.deepEqual([...kept.values()], ["svc_secret"]);
  assert.equal(access.has("post_office.observe"), true);
  assert.deepEqual(access.missing("post_office.observe", "post_office.admin"), ["post_office.admin"]);
});

test("a reload takes the token up again", async () => {
  const first = world([IDENTITY]);
  await first.access.use("svc_secret");
  const second = world([IDENTITY]);
  for (const [name, value] of first.kept) second.kept.set(name, value);
  const opened = new Promise((resolve) => second.access.changed.listen(({ phase }) => phase === "open" && resolve()));
  second.access.start();
  await opened;
  assert.equal(second.asked[0].token, "svc_secret");
});

test("a token that nobody knows opens nothing and is not kept", async () => {
  const { access, kept } = world([unauthenticated()]);
  await access.use("svc_wrong");
  assert.deepEqual([access.state.phase, access.token, kept.size], ["closed", "", 0]);
  assert.ok(!access.state.sentence.includes("svc_wrong"));
});

test("what cannot be a token is not even sent", async () => {
  const { access, asked } = world([]);
  for (const text of ["", "   ", "two words", "naïve"]) await access.use(text);
  assert.deepEqual([access.state.phase, asked], ["closed", []]);
});

test("a person's session opens nothing here", async () => {
  const { access, kept } = world([{ ...IDENTITY, kind: "session", scopes: [] }]);
  await access.use("ses_7fx");
  assert.deepEqual([access.state.phase, kept.size], ["closed", 0]);
});

test("while nothing answers it is asked again, and forgetting ends that", async () => {
  const away = new OperationError("away", { code: "unreachable", retryable: true });
  const { access, timers } = world([away, IDENTITY]);
  await access.use("svc_secret");
  assert.deepEqual([access.state.phase, timers.length], ["asking", 1]);
  await timers[0].then();
  assert.equal(access.state.phase, "open");
  const again = world([away]);
  await again.access.use("svc_secret");
  again.access.forget();
  assert.deepEqual([again.access.state.phase, again.timers.length], ["closed", 0]);
});

test("a token that has ended closes the pages, whichever call found out", async () => {
  const { access, kept } = world([IDENTITY, unauthenticated()]);
  await access.use("svc_secret");
  await assert.rejects(access.call("post_office.list_channels"), { code: "unauthenticated" });
  assert.deepEqual([access.state.phase, kept.size], ["closed", 0]);
});

test("a late refusal of an earlier token does not close the pages of the new one", async () => {
  const { access } = world([IDENTITY]);
  await access.use("svc_new");
  access.noticed(unauthenticated(), "svc_old");
  assert.equal(access.state.phase, "open");
});

test("another refusal leaves the pages open", async () => {
  const { access } = world([IDENTITY, new OperationError("no", { code: "forbidden", status: 403 })]);
  await access.use("svc_secret");
  await assert.rejects(access.call("post_office.disconnect"), { code: "forbidden" });
  assert.equal(access.state.phase, "open");
});
