import assert from "node:assert/strict";
import { test } from "node:test";

import { OperationError } from "../../platform/city_hall/console/client/errors.js";
import { call } from "../../platform/city_hall/console/client/operations.js";

const CITY = "http://city.test";
const NAME = "post_office.list_channels";

function answering(status, body, asked = []) {
  const request = async (url, init) => {
    asked.push({ url: String(url), ...init });
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status });
  };
  return { asked, request };
}

const refused = (promised) => promised.then(() => assert.fail("it was answered"), (error) => error);

test("a call posts its arguments to the operation's address and gives back the result's fields", async () => {
  const { asked, request } = answering(200, { success: true, channels: ["guide"] });
  const result = await call(CITY, "svc_1", NAME, { limit: 3 }, { request, key: "once" });
  assert.deepEqual(result, { channels: ["guide"] });
  const [{ url, method, headers, body, credentials }] = asked;
  assert.deepEqual([method, url], ["POST", "http://city.test/soa/post-office/list_channels"]);
  assert.equal(headers.get("authorization"), "Bearer svc_1");
  assert.equal(headers.get("idempotency-key"), "once");
  assert.equal(body, '{"limit":3}');
  assert.equal(credentials, "omit");
});

test("without a token the page's own cookie speaks, and no header is made up", async () => {
  const { asked, request } = answering(200, { success: true });
  assert.deepEqual(await call(CITY, "", NAME, undefined, { request }), {});
  assert.equal(asked[0].headers.has("authorization"), false);
  assert.equal(asked[0].credentials, "same-origin");
  assert.equal(asked[0].body, "{}");
});

test("a refusal carries what the problem document says", async () => {
  const problem = {
    status: 429, detail: "slower, please", code: "rate_limited", retryable: true, retry_after: 1.5,
    errors: [{ field: "limit", message: "too large" }],
  };
  const error = await refused(call(CITY, "svc_1", NAME, {}, answering(429, problem)));
  assert.ok(error instanceof OperationError);
  const { code, message, status, retryable, retryAfter, errors } = error;
  assert.deepEqual([code, message, status], ["rate_limited", "slower, please", 429]);
  assert.deepEqual([retryable, retryAfter], [true, 1.5]);
  assert.deepEqual(errors, [{ field: "limit", message: "too large" }]);
});

test("what a refusal leaves out has a value all the same", async () => {
  const problem = { detail: "no", code: "forbidden", retryable: false };
  const { retryAfter, errors } = await refused(call(CITY, "svc_1", NAME, {}, answering(403, problem)));
  assert.deepEqual([retryAfter, errors], [0, []]);
});

test("something else that answers is told from the platform", async () => {
  const error = await refused(call(CITY, "", NAME, {}, answering(502, "<html>")));
  assert.deepEqual([error.code, error.status, error.retryable], ["no_answer", 502, true]);
  const noJson = await refused(call(CITY, "", NAME, {}, answering(200, "hello")));
  assert.equal(noJson.code, "no_answer");
});

test("nothing that answers is worth another try", async () => {
  const request = async () => { throw new TypeError("fetch failed"); };
  const error = await refused(call(CITY, "", NAME, {}, { request }));
  assert.deepEqual([error.code, error.status, error.retryable], ["unreachable", 0, true]);
});

test("a call that is called off rejects with the reason for that", async () => {
  const off = new AbortController();
  const request = (_url, { signal }) => new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
  });
  const called = refused(call(CITY, "", NAME, {}, { request, signal: off.signal }));
  off.abort(new Error("left the page"));
  assert.equal((await called).message, "left the page");
});

test("a call that is not answered in time is given up", async () => {
  const request = (_url, { signal }) => new Promise((_, reject) => {
    const alive = setInterval(() => {}, 1000);
    signal.addEventListener("abort", () => { clearInterval(alive); reject(signal.reason); });
  });
  const error = await refused(call(CITY, "", NAME, {}, { request, deadline: 5 }));
  assert.equal(error.code, "unreachable");
});

test("a name that is no operation's is refused before anything is sent", async () => {
  const { asked, request } = answering(200, {});
  await assert.rejects(call(CITY, "", "list_channels", {}, { request }), TypeError);
  await assert.rejects(call(CITY, "", "post_office.../console/session", {}, { request }), TypeError);
  assert.deepEqual(asked, []);
});
