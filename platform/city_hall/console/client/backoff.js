/**
 * How long to wait before coming back: full jitter, so that a crowd that lost its server does not return as
 * one.
 */

export const FIRST_CEILING_MS = 500;
export const LAST_CEILING_MS = 20_000;

/** The longest wait before this attempt; attempts count from 1. @param {number} attempt */
export function ceiling(attempt) {
  return Math.min(LAST_CEILING_MS, FIRST_CEILING_MS * 2 ** Math.max(0, attempt - 1));
}

/**
 * Anything between nothing and the ceiling, each equally likely.
 *
 * @param {number} attempt
 * @param {() => number} random uniform in [0, 1)
 */
export function delayBefore(attempt, random) {
  return Math.round(random() * ceiling(attempt));
}
