/**
 * Something the platform knows, asked for again and again: what was heard last stays while it does not answer,
 * with the error beside it. It draws nothing.
 */

import { OperationError, Signal, delayBefore } from "../client/index.js";

/** @import { Clock } from "../client/index.js" */

/**
 * @template T
 * @typedef {{
 *   value: T | null, at: number, error: OperationError | null, nextAt: number,
 * }} Seen  `at`: when the value was heard; `nextAt`: when it is asked for again; 0 while it is being
 */

const AFTER_FAILURE_MS = 500;
/** A page that somebody looks at is not to be blank for long once the platform is back. */
const LONGEST_PAUSE_MS = 5000;

/** @template T */
export class Watch {
  /** @type {Signal<Seen<T>>} */
  changed = new Signal();
  /** @type {Seen<T>} */
  seen = { value: null, at: 0, error: null, nextAt: 0 };

  #ask;
  #every;
  #clock;
  #random;
  #failures = 0;
  #callOff = () => {};
  /** @type {AbortController | null} */
  #asking = null;
  #isOn = false;

  /**
   * @param {(signal: AbortSignal) => Promise<T>} ask
   * @param {{ every: number, clock: Clock, random?: () => number }} how  `every`: milliseconds between answers; 0
   *   when one answer is all that is wanted
   */
  constructor(ask, { every, clock, random = Math.random }) {
    this.#ask = ask;
    this.#every = every;
    this.#clock = clock;
    this.#random = random;
  }

  start() {
    if (this.#isOn || (this.#every === 0 && this.seen.value !== null)) return;
    this.#isOn = true;
    this.now();
  }

  /** Nothing is asked any more, and what is under way is called off. */
  stop() {
    this.#isOn = false;
    this.#callOff();
    this.#asking?.abort();
    this.#asking = null;
  }

  /** Asks at once; what was under way is called off, as it may be old. */
  async now() {
    if (!this.#isOn) return;
    this.#callOff();
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    this.#tell({ ...this.seen, nextAt: 0 });
    try {
      const value = await this.#ask(asking.signal);
      if (asking === this.#asking) this.#heard(value);
    } catch (error) {
      if (asking === this.#asking) this.#failed(error);
    }
  }

  /** @param {T} value */
  #heard(value) {
    this.#failures = 0;
    const now = this.#clock.now();
    if (this.#every > 0) this.#again(this.#every);
    else this.stop();
    this.#tell({ value, at: now, error: null, nextAt: now + this.#every });
  }

  /** @param {unknown} thrown */
  #failed(thrown) {
    this.#failures += 1;
    const error = thrown instanceof OperationError ? thrown
      : new OperationError(String(thrown), { code: "internal" });
    const pause = Math.min(LONGEST_PAUSE_MS, AFTER_FAILURE_MS + delayBefore(this.#failures, this.#random));
    const wait = Math.max(pause, error.retryAfter * 1000, error.retryable ? 0 : this.#every);
    this.#again(wait);
    this.#tell({ ...this.seen, error, nextAt: this.#clock.now() + wait });
  }

  /** @param {number} milliseconds */
  #again(milliseconds) {
    this.#asking = null;
    this.#callOff = this.#clock.after(milliseconds, () => this.now());
  }

  /** @param {Seen<T>} seen */
  #tell(seen) {
    this.seen = seen;
    this.changed.emit(seen);
  }
}
