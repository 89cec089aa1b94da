/** Notices when a peer says nothing for too long. Hearing something is cheap: no timer is touched. */

/** @import { Clock } from "./clock.js" */

export class Silence {
  #clock;
  #limit = 0;
  #heardAt = 0;
  #tooLong = () => {};
  #callOff = () => {};

  /** @param {Clock} clock */
  constructor(clock) {
    this.#clock = clock;
  }

  /**
   * Begins to watch, in place of any earlier watch.
   *
   * @param {number} limit milliseconds
   * @param {() => void} tooLong
   */
  watch(limit, tooLong) {
    this.stop();
    this.#limit = limit;
    this.#tooLong = tooLong;
    this.hear();
    this.#callOff = this.#clock.after(limit, () => this.#look());
  }

  hear() {
    this.#heardAt = this.#clock.now();
  }

  stop() {
    this.#callOff();
    this.#callOff = () => {};
  }

  #look() {
    const left = this.#heardAt + this.#limit - this.#clock.now();
    if (left > 0) this.#callOff = this.#clock.after(left, () => this.#look());
    else this.#tooLong();
  }
}
