/**
 * Operations of the platform over HTTP, one call a request. It retries nothing: whether that is wise is the
 * caller's to know, and a key makes it safe.
 */

import { toJson } from "./base64.js";
import { OperationError } from "./errors.js";

/**
 * @typedef {{ key?: string, signal?: AbortSignal, deadline?: number, request?: typeof fetch }} CallOptions
 *   `key` (≤ 64 characters) makes a call that takes one safe to repeat; `deadline`: milliseconds
 */

/** More than any operation takes, those that wait for messages included. */
export const DEADLINE_MS = 60_000;

const NAME = /^(?<service>[a-z_]+)\.(?<operation>[a-z_]+)$/;

/**
 * Calls an operation and returns the fields of its result.
 *
 * @param {string | URL} baseUrl of the platform
 * @param {string} token a session's or a service's; "" in a page of the platform's own, whose cookie tells
 * @param {string} name "post_office.list_channels"
 * @param {object} [args]
 * @param {CallOptions} [options]
 * @returns {Promise<any>}
 * @throws {OperationError} code as the platform has it; `unreachable` when nothing answered, `no_answer` when
 *   what answered was not the platform. An abort rejects with the signal's own reason.
 */
export async function call(baseUrl, token, name, args = {}, options = {}) {
  const response = await reach(operationUrl(baseUrl, name), requestFor(token, args, options), options);
  const answer = await response.json().catch(() => null);
  options.signal?.throwIfAborted();
  if (response.ok && answer) return resultOf(answer);
  throw refusalOf(response, answer);
}

/**
 * Where an operation is called.
 *
 * @param {string | URL} baseUrl
 * @param {string} name
 */
export function operationUrl(baseUrl, name) {
  const { service, operation } = NAME.exec(name)?.groups ?? {};
  if (!service) throw new TypeError(`${name} is not the name of an operation, which is "service.operation"`);
  return new URL(`/soa/${service.replaceAll("_", "-")}/${operation}`, baseUrl);
}

/**
 * @param {string} token
 * @param {object} args
 * @param {CallOptions} options
 * @returns {RequestInit}
 */
function requestFor(token, args, { key, signal, deadline = DEADLINE_MS }) {
  const headers = new Headers({ "content-type": "application/json" });
  if (token) headers.set("authorization", `Bearer ${token}`);
  if (key) headers.set("idempotency-key", key);
  const late = AbortSignal.timeout(deadline);
  return {
    method: "POST",
    headers,
    body: toJson(args),
    credentials: token ? "omit" : "same-origin",
    cache: "no-store",
    signal: signal ? AbortSignal.any([signal, late]) : late,
  };
}

/**
 * @param {URL} url
 * @param {RequestInit} asked
 * @param {CallOptions} options
 */
async function reach(url, asked, { signal, request = fetch }) {
  try {
    return await request(url, asked);
  } catch {
    signal?.throwIfAborted();
    throw new OperationError("The platform does not answer. Is it running?",
      { code: "unreachable", retryable: true });
  }
}

/** @param {any} answer */
function resultOf({ success: _success, ...result }) {
  return result;
}

/**
 * @param {Response} response
 * @param {any} problem RFC 9457, or null when it was no JSON
 */
function refusalOf({ status }, problem) {
  if (typeof problem?.code !== "string") {
    return new OperationError(`The platform answered with status ${status}, and not as it should.`,
      { code: "no_answer", status, retryable: status >= 500 });
  }
  return new OperationError(problem.detail, {
    code: problem.code, status, retryable: problem.retryable, retryAfter: problem.retry_after,
    errors: problem.errors,
  });
}
