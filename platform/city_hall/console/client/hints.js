/** What a browser knows of its network and its reader, as a hint to look after the connection now. */

/**
 * @param {() => void} hurry
 * @returns {() => void} ends it
 */
export function followHints(hurry) {
  const { document } = globalThis;
  if (!document || !globalThis.addEventListener) return () => {};
  const ended = new AbortController();
  const { signal } = ended;
  addEventListener("online", hurry, { signal });
  addEventListener("offline", hurry, { signal });
  document.addEventListener("visibilitychange", () => document.hidden || hurry(), { signal });
  return () => ended.abort();
}
