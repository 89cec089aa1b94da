/**
 * The JavaScript client under test: does what the runner says on its standard input, and tells what it got. It adds
 * nothing to the client that it drives.
 */

import { createInterface } from "node:readline";

import { toJson, withBytes } from "../../platform/city_hall/console/client/base64.js";
import { City, CityError } from "../../platform/city_hall/console/client/index.js";

const CAN = ["ask", "stop", "refresh", "bytes", "msgpack"];

function tell(told, fields = {}) {
  process.stdout.write(`${toJson({ told, ...fields })}\n`);
}

const readers = new Map();
const askings = new Map();
/** @type {City} */
let city;

function open({ url, token, encoding }) {
  city = new City(url, { token, encoding });
  let isOpen = false;
  city.on("state", (state) => {
    if (state.phase === "connected" && !isOpen) tell("opened");
    if (state.phase === "connected") isOpen = true;
    if (state.phase === "ended") tell("ended", { code: state.verdict.code });
  });
}

async function read(channel, reader) {
  try {
    for await (const { offset, epoch, payload, gap } of reader) {
      if (gap) tell("gap", { channel, reason: gap.reason });
      tell("publication", { channel, offset, epoch, payload });
    }
  } catch (error) {
    if (error.code !== "ended") tell("unsubscribed", { channel, code: error.code });
  }
}

const doing = {
  async subscribe({ channel, since = null }) {
    const reader = city.listen(channel, { since });
    await reader.ready;
    readers.set(channel, reader);
    setImmediate(read, channel, reader); // after its "done"
  },
  async unsubscribe({ channel }) {
    readers.get(channel).close();
  },
  async publish({ channel, payload }) {
    const { messageId, position } = await city.publish(channel, payload);
    return { message_id: messageId, ...position };
  },
  async ask({ channel, payload }, name) {
    const asking = city.ask(channel, payload);
    askings.set(name, asking);
    const { text, payload: whole } = await asking;
    return { text, payload: whole };
  },
  async stop({ question }) {
    askings.get(question).stop();
  },
  async refresh({ token }) {
    await city.refresh(token);
  },
};

async function carryOut({ do: what, as: name, ...given }) {
  try {
    const done = await doing[what](given, name);
    if (name) tell("done", { as: name, ...done });
  } catch (error) {
    if (!(error instanceof CityError)) throw error;
    tell("refused", { as: name, code: error.code });
  }
}

tell("ready", { can: CAN });
for await (const line of createInterface({ input: process.stdin })) {
  const instruction = withBytes(JSON.parse(line));
  if (instruction.do === "open") open(instruction);
  else if (instruction.do === "close") break;
  else carryOut(instruction);
}
city.close();
tell("closed");
process.stdin.destroy();
