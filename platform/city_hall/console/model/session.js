/**
 * Signing in and out over HTTP. The token lives in a cookie that no script can read; what is handed on here
 * is only who one is, and where one may go.
 */

/**
 * @typedef {{ offered: boolean, has_session: boolean, channels: string[] }} Desk  what a page finds at first
 * @typedef {{ user_id: string, expires_at: string }} Session
 */

const PATH = "/console/session";
const DEADLINE_MS = 10_000;

/** A request that failed, with a sentence for people. */
export class SessionError extends Error {}

/** What this platform offers to a page that just arrived. @returns {Promise<Desk>} */
export function look(request = fetch) {
  return ask(request, "GET");
}

/**
 * Opens a session; its token comes as a cookie.
 *
 * @param {string} userId
 * @returns {Promise<Session>}
 */
export function open(userId, request = fetch) {
  return ask(request, "POST", { user_id: userId });
}

/** Ends the session, on the platform too. @returns {Promise<void>} */
export function close(request = fetch) {
  return ask(request, "DELETE");
}

/**
 * @param {typeof fetch} request
 * @param {"GET" | "POST" | "DELETE"} method
 * @param {Record<string, string>} [body]
 * @returns {Promise<any>} the JSON answered
 */
async function ask(request, method, body) {
  const response = await reach(request, method, body);
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new SessionError(answer?.detail ?? `The platform answered with status ${response.status}.`);
}

/**
 * @param {typeof fetch} request
 * @param {string} method
 * @param {Record<string, string>} [body]
 */
async function reach(request, method, body) {
  try {
    return await request(PATH, {
      method,
      credentials: "same-origin",
      headers: body ? { "content-type": "application/json" } : {},
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch {
    throw new SessionError("The platform does not answer. Is it running?");
  }
}
