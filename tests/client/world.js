/** A world that a test owns: its time, its chance, and sockets whose other end the test holds. */

import { City } from "../../platform/city_hall/console/client/index.js";

export class FakeClock {
  #now = 1_000_000;
  /** @type {{ at: number, then: () => void }[]} */
  #timers = [];

  now = () => this.#now;

  after = (milliseconds, then) => {
    const timer = { at: this.#now + milliseconds, then };
    this.#timers.push(timer);
    return () => (this.#timers = this.#timers.filter((other) => other !== timer));
  };

  /** Lets time pass; whatever falls due happens in order, at its own time. */
  pass(milliseconds) {
    const end = this.#now + milliseconds;
    for (let next = this.#next(end); next; next = this.#next(end)) {
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = next.at;
      next.then();
    }
    this.#now = end;
  }

  get waiting() {
    return this.#timers.length;
  }

  #next(end) {
    return this.#timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0];
  }
}

export class FakeSocket {
  sent = [];
  closed = undefined;
  onmessage = null;
  onclose = null;

  constructor(resume, token) {
    this.resume = resume;
    this.token = token;
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close(code) {
    this.closed = code ?? 1005;
  }

  /** The platform says something. */
  says(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
  }

  /** The connection ends. */
  ends(code = 1006, reason = "") {
    this.onclose({ code, reason });
  }

  last(type) {
    return this.sent.findLast((frame) => (frame.type ?? "message") === type);
  }
}

/** Sockets are kept in the order they were opened; chance always picks `luck`. */
export class World {
  clock = new FakeClock();
  sockets = [];
  random = () => this.luck;
  openSocket = (resume, token) => {
    const socket = new FakeSocket(resume, token);
    this.sockets.push(socket);
    return socket;
  };

  constructor({ luck = 0.5 } = {}) {
    this.luck = luck;
  }

  get socket() {
    return this.sockets.at(-1);
  }
}

export function welcome(connectionId = "c-1", more = {}) {
  const channels = {
    [`connection:${connectionId}`]: { offset: 0, epoch: "" },
    "user:alice": { offset: 7, epoch: "u" },
  };
  return {
    type: "system", event: "welcome", connection_id: connectionId, user_id: "alice", instance_id: "i-1",
    resumed: false, heartbeat_seconds: 25, max_message_bytes: 4096, channels, ...more,
  };
}

/** A city whose first connection is up, subscribed at offset 40 of every channel. */
export async function connectedCity(channels = ["guide", "pillar:content"], options = {}) {
  const world = new World();
  const city = new City("http://city.test", { world, ...options });
  if (channels.length > 0) city.subscribe(channels);
  await null;
  join(world.socket);
  return { world, city };
}

/** What is told of these kinds from now on, in order. */
export function told(city, ...kinds) {
  const all = [];
  for (const kind of kinds) city.on(kind, (value) => all.push([kind, value]));
  return all;
}

/** Lets everything happen that waits for nothing but its turn. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));

/** The platform's side of getting connected; `outcomes` replace the plain "joined at 40". */
export function join(socket, { id = "c-1", outcomes = {}, ...more } = {}) {
  socket.says(welcome(id, more));
  if (!socket.last("subscribe")) return;
  const { id: asked, channels } = socket.last("subscribe");
  const joined = Object.keys(channels).map((log) => [log, outcomes[log] ?? { offset: 40, epoch: "e" }]);
  socket.says({ type: "ack", id: asked, channels: Object.fromEntries(joined) });
}

/** The platform has taken what was sent last. */
export function acknowledge({ socket }, messageId = "q-1", more = {}) {
  const { id, channel } = socket.last("message") ?? socket.last("publish");
  socket.says({ type: "ack", id, channel, status: "queued", message_id: messageId, ...more });
}

export function publication(offset, more = {}) {
  return {
    type: "message", channel: "guide", sender: { kind: "service", id: "content" },
    payload: { message: "news" }, message_id: `pub-${offset}`, offset, epoch: "e",
    timestamp: "2026-11-20T09:30:00.000Z", ...more,
  };
}

export function response(more = {}) {
  return {
    type: "chat_response", channel: "guide", agent: "guide", in_reply_to: "q-1", payload: { message: "" },
    message_id: "a-1", log: "connection:c-1", timestamp: "2026-11-20T09:30:00.000Z", ...more,
  };
}
