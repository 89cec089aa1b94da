/**
 * The one class of errors that this library rejects with and throws. What to compare is its code: one of the
 * platform's (docs/protocol.md), or one of the library's own below.
 */

/**
 * @typedef {{ field: string, message: string }} WrongField
 * @typedef {{
 *   code: string, status?: number, retryable?: boolean, retryAfter?: number, errors?: WrongField[],
 * }} Told  what is known of a failure
 * @typedef {{ code: string, message: string, retryable?: boolean, retryAfter?: number }} Refusal
 */

/** Codes that no platform sends, since they are decided on this side. */
export const OWN_CODES = Object.freeze({
  /** Nothing answers at the address. */
  unreachable: "unreachable",
  /** What answered was not the platform, or nothing was heard of an answer for too long. */
  noAnswer: "no_answer",
  /** The connection is over for good, or this client was closed. */
  ended: "ended",
  /** Too many messages wait already. */
  queueFull: "queue_full",
  /** It may have arrived before the connection was lost, and the platform has forgotten its key by now. */
  uncertain: "uncertain",
});

/** `retryAfter` is in seconds, 0 when nothing was said; `status` is HTTP's, 0 when there is none. */
export class CityError extends Error {
  /**
   * @param {string} message
   * @param {Told} told
   */
  constructor(message, { code, status = 0, retryable = false, retryAfter = 0, errors = [] }) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.status = status;
    this.retryable = retryable;
    this.retryAfter = retryAfter;
    this.errors = errors;
  }

  /** @param {Refusal} refusal */
  static of({ message, ...told }) {
    return new CityError(message, told);
  }
}

/** An operation was refused over HTTP, or could not be called. */
export class OperationError extends CityError {}
