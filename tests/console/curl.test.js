import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { asCurl } from "../../platform/city_hall/console/model/curl.js";

const URL_OF_IT = new URL("http://city.test/soa/post-office/publish");

test("a command says the same as the call, and holds no token", () => {
  const command = asCurl(URL_OF_IT, { channel: "guide" }, "k-1");
  assert.match(command, /curl -X POST 'http:\/\/city\.test\/soa\/post-office\/publish'/);
  assert.match(command, /Authorization: Bearer \$SMART_CITY_TOKEN/);
  assert.match(command, /Idempotency-Key: k-1/);
  assert.match(command, /-d '{"channel":"guide"}'/);
});

test("nothing in the arguments means anything to a shell", () => {
  const args = { message: "it's $HOME `id` \\ \"x\" \n end" };
  const command = asCurl(URL_OF_IT, args).replace("curl", "printf '%s\\0'");
  const words = execFileSync("sh", ["-c", command]).toString().split("\0");
  assert.deepEqual(JSON.parse(words[words.indexOf("-d") + 1]), args);
});
