import assert from "node:assert/strict";
import { test } from "node:test";

import { decode, encode, encodeBinary } from "../../platform/city_hall/console/client/frames.js";
import { pack } from "../../platform/city_hall/console/client/msgpack.js";

const message = (payload) => ({ type: "message", channel: "guide", payload });
const heard = (text) => decode(text).payload;

test("bytes in a payload go out as base64 in JSON, of whatever kind they are", () => {
  const bytes = new Uint8Array([0, 255]);
  for (const data of [bytes, bytes.buffer, new DataView(bytes.buffer), Buffer.from(bytes)]) {
    assert.equal(encode(message({ data })), encode(message({ data: { $bytes: "AP8=" } })));
  }
});

test("they come back as bytes at any depth, and many of them", () => {
  const many = Uint8Array.from({ length: 100_000 }, (_, index) => index % 256);
  const payload = { data: new Uint8Array([0, 255]), deep: [{ a: new Uint8Array() }], many };
  assert.deepEqual(heard(encode(message(payload))), payload);
  assert.deepEqual(heard('{"type":"message","payload":{"a":{"\\u0024bytes":"AP8="}}}').a, new Uint8Array([0, 255]));
});

test("what only looks like bytes stays the object that it is", () => {
  const objects = [{ $bytes: "AP8" }, { $bytes: "!" }, { $bytes: 1 }, { $bytes: "AP8=", more: 1 }, { $bytes: "AP9=" }];
  for (const data of objects) assert.deepEqual(heard(encode(message({ data }))).data, data);
  assert.deepEqual(heard(encode(message({ $bytes: "AP8=" }))), { $bytes: "AP8=" });
});

test("a binary frame is read like one of text", () => {
  const frame = message({ data: new Uint8Array([1]), n: -5, text: "é" });
  const { buffer, byteOffset, byteLength } = encodeBinary(frame);
  assert.deepEqual(decode(buffer.slice(byteOffset, byteOffset + byteLength)), frame);
});

test("fields without a value are left out, as in JSON", () => {
  const said = { a: undefined, b: () => {}, c: null, at: new Date(0), none: NaN };
  assert.deepEqual(pack(said), pack(JSON.parse(JSON.stringify(said))));
});

test("what is no frame is passed over", () => {
  for (const data of ["}{", "[1]", "7", "null", '{"a":1}', new ArrayBuffer(0), pack([1]).slice().buffer, undefined]) {
    assert.equal(decode(data), null);
  }
});
