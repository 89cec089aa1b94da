/** The passing of time as an object, so that tests can own it. */

/**
 * @typedef {{
 *   now: () => number,
 *   after: (milliseconds: number, then: () => void) => () => void,
 * }} Clock  `after` returns what calls it off
 */

/** The machine's own clock, in milliseconds. @type {Clock} */
export const realClock = {
  now: () => Date.now(),
  after(milliseconds, then) {
    const timer = setTimeout(then, milliseconds);
    return () => clearTimeout(timer);
  },
};
