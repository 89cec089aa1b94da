/**
 * Addresses of the console, so that links, reloads and the back button work: `#/page/rest?name=value`. What a
 * page does with its address is the page's business.
 */

/** @typedef {{ page: string, rest: string, query: Record<string, string> }} Route */

/**
 * @param {string} hash
 * @returns {Route} an address that cannot be read is the empty one
 */
export function routeOf(hash) {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...rest] = path.split("/");
  const query = Object.fromEntries(new URLSearchParams(search));
  try {
    return { page: decodeURIComponent(page), rest: decodeURIComponent(rest.join("/")), query };
  } catch {
    return { page: "", rest: "", query: {} };
  }
}

/**
 * @param {string} page
 * @param {string} [rest] a channel's name, say
 * @param {Record<string, string>} [query] empty values are left out
 */
export function addressOf(page, rest = "", query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ""));
  const path = rest ? `${page}/${encodeURIComponent(rest).replaceAll("%3A", ":")}` : page;
  return `#/${path}${asked.size > 0 ? `?${asked}` : ""}`;
}
