/** A program in Node that does with the client what the test has it do, and says in JSON what came of it. */

import { City } from "../../platform/city_hall/console/client/index.js";

const [url, token, encoding] = process.argv.slice(2);
const told = { states: [], restarts: 0 };
const city = new City(url, { token, encoding });
city.on("state", ({ phase }) => told.states.push(phase));

const question = { message: "one two three", data: new Uint8Array([0, 255]) };
const asked = city.ask("guide", question, { intent: "query", conversationId: "k" });
told.query = (await asked).payload;
told.query.asked.data = told.query.asked.data instanceof Uint8Array && [...told.query.asked.data];

told.parts = "";
for await (const part of city.ask("guide", "one two three")) told.parts += part;
told.refused = await city.ask("guide", "no", { intent: "command" }).then(() => "", ({ code }) => code);

const reader = city.listen("guide");
await reader.ready;
console.log("listening");
told.heard = [];
for await (const { offset, payload, gap } of reader) {
  told.heard.push([offset, payload.n, gap]);
  if (payload.n === 1) console.log("heard");
  if (payload.n === 20) break;
}
told.forbidden = await city.publish("guide", "news").then(() => "", ({ code }) => code);
told.called = await city.call("traffic_cop.get_caller_identity").then(({ kind }) => kind);
told.missing = await city.call("post_office.get_connection_count").then(() => "", ({ code }) => code);
city.close();
console.log(JSON.stringify(told));
