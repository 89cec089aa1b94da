/**
 * Signs of life between tabs and their worker: a lock is free when who held it is gone, whatever it died of. Not
 * every browser and page has them; without, pings tell.
 */

import { newKey } from "./frames.js";

/**
 * Holds a lock of one's own.
 *
 * @param {AbortSignal} [signal] lets it go
 * @returns {Promise<string>} its name, once it is held; "" where there are none
 */
export async function hold(signal) {
  const { locks } = globalThis.navigator ?? {};
  if (!locks) return "";
  const name = `smart-city ${newKey()}`;
  return new Promise((resolve) => {
    const held = () => {
      resolve(name);
      return new Promise((free) => signal?.addEventListener("abort", free));
    };
    locks.request(name, signal ? { signal } : {}, held).catch(() => resolve(""));
  });
}

/**
 * @param {string} name of another's lock, or ""
 * @param {() => void} then
 * @param {AbortSignal} [signal] ends the waiting
 */
export function whenFree(name, then, signal) {
  const how = signal ? { signal } : {};
  if (name) globalThis.navigator?.locks?.request(name, how, then).catch(() => {}); // refused where storage is; pings tell
}
