/** A program in Node that listens to a channel with the JavaScript client, and prints what it is given, a line each. */

import { City } from "../../platform/city_hall/console/client/index.js";

const [url, token, channel] = process.argv.slice(2);
const reader = new City(url, { token }).listen(channel);
await reader.ready;
console.log("listening");
for await (const { offset, epoch, messageId, payload, gap } of reader) {
  console.log(JSON.stringify({ offset, epoch, messageId, key: payload.key ?? "", gap }));
}
