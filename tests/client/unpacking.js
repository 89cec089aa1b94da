/** Unpacks each line of hexadecimal MessagePack, says what it is in JSON, and packs it again. */

import { createInterface } from "node:readline";

import { toJson } from "../../platform/city_hall/console/client/base64.js";
import { pack, unpack } from "../../platform/city_hall/console/client/msgpack.js";

for await (const line of createInterface({ input: process.stdin })) {
  try {
    const value = unpack(Buffer.from(line, "hex"));
    console.log(toJson({ value, again: Buffer.from(pack(value)).toString("hex") }));
  } catch (error) {
    console.log(JSON.stringify({ error: error.name }));
  }
}
