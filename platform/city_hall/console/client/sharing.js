/**
 * A tab's way to the engine in a SharedWorker. Where there is none, it does not start, or it dies, the tab gets an
 * engine of its own, tells it everything again, and nobody outside notices.
 */

import { Engine } from "./engine.js";
import { hold, whenFree } from "./locks.js";
import { Silence } from "./silence.js";

/** @import { Address } from "./addresses.js" */
/** @import { News, Request, World } from "./engine.js" */
/** @import { Heard, Said } from "./hall.js" */
/** @import { Through } from "./tab.js" */

/** How long a worker may take to start. */
export const START_MS = 5_000;
/** A worker that says nothing for so long has to answer, and within the second of these. */
export const SILENCE_MS = 50_000;
export const PROBE_MS = 5_000;

/**
 * @param {Address} address
 * @param {World} world for an engine of one's own
 * @param {() => { port: MessagePort, onerror: unknown }} startWorker throws where there are none
 * @returns {Through}
 */
export function through(address, world, startWorker) {
  return (tell) => {
    const way = new Way(tell, address, world);
    way.share(startWorker);
    return (request) => way.ask(request);
  };
}

/** Starts the worker whose script lies beside this one, or elsewhere. @param {string | URL} [script] */
export function workerAt(script) {
  const name = "smart-city";
  // A bundler finds the script by this very form.
  return script ? new SharedWorker(script, { type: "module", name })
    : new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name });
}

class Way {
  #tell;
  #address;
  #world;
  #silence;
  /** @type {MessagePort | null} */
  #port = null;
  /** @type {((request: Request) => void) | null} to an engine of one's own */
  #serve = null;
  #hasAsked = false;
  #ended = new AbortController();

  /**
   * @param {(news: News) => void} tell
   * @param {Address} address
   * @param {World} world
   */
  constructor(tell, address, world) {
    this.#tell = tell;
    this.#address = address;
    this.#world = world;
    this.#silence = new Silence(world.clock);
  }

  /** @param {() => { port: MessagePort, onerror: unknown }} startWorker */
  share(startWorker) {
    try {
      const worker = startWorker();
      worker.onerror = () => this.#goAlone();
      this.#port = worker.port;
      this.#port.onmessage = ({ data }) => this.#hear(data);
      const { socketUrl, token, encoding } = this.#address;
      this.#say({ kind: "open", url: socketUrl.href, token, encoding });
      this.#silence.watch(START_MS, () => this.#goAlone());
      this.#followPage();
      hold(this.#ended.signal).then((lock) => lock && this.#say({ kind: "holds", lock }));
    } catch {
      this.#goAlone();
    }
  }

  /** @param {Request} request */
  ask(request) {
    this.#hasAsked = true;
    if (this.#serve) this.#serve(request);
    else this.#say({ kind: "ask", request });
    if (request.ask === "bye" || request.ask === "end") this.#leave();
  }

  /** @param {Heard} heard */
  #hear(heard) {
    this.#silence.watch(SILENCE_MS, () => this.#doubt());
    if (heard.kind === "news") this.#tell(heard.news);
    else if (heard.kind === "ping") this.#say({ kind: "here" });
    else if (heard.kind === "stranger") this.#tell({ news: "stranger" });
    else if (heard.kind === "ready") whenFree(heard.lock, () => this.#goAlone(), this.#ended.signal);
  }

  /** The worker may be gone, or this tab has slept; a living one answers at once. */
  #doubt() {
    this.#say({ kind: "probe" });
    this.#silence.watch(PROBE_MS, () => this.#goAlone());
  }

  #goAlone() {
    if (this.#serve || this.#ended.signal.aborted) return;
    this.#leave();
    this.#serve = new Engine(this.#world).attach(this.#tell);
    if (this.#hasAsked) this.#tell({ news: "stranger" });
  }

  /** A page that is left says so; one that comes back out of the browser's cache is a stranger. */
  #followPage() {
    if (!globalThis.document) return;
    const { signal } = this.#ended;
    addEventListener("pagehide", () => this.#say({ kind: "ask", request: { ask: "bye" } }), { signal });
    addEventListener("pageshow", ({ persisted }) => persisted && this.#tell({ news: "stranger" }), { signal });
  }

  #leave() {
    this.#ended.abort();
    this.#silence.stop();
    this.#port?.close();
    this.#port = null;
  }

  /** @param {Said} said */
  #say(said) {
    this.#port?.postMessage(said);
  }
}
