/** A promise that somebody else settles. (Promise.withResolvers is younger than some browsers this runs in.) */

/**
 * @template T
 * @typedef {{
 *   promise: Promise<T>, resolve: (value: T) => void, reject: (error: unknown) => void,
 * }} Deferred
 */

/**
 * @template T
 * @returns {Deferred<T>}
 */
export function deferred() {
  /** @type {any} */
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}
