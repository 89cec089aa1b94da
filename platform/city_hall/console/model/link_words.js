/** The state of a connection in words. */

/** @import { State } from "../client/index.js" */

/**
 * @typedef {{
 *   light: "up" | "trying" | "down", word: string, sentence: string, canHurry: boolean,
 * }} LinkWords  `sentence`: "" while there is nothing to explain; `canHurry`: reconnecting now makes sense
 */

const SIGNED_OUT = 4501;

/**
 * @param {State} state
 * @param {number} now
 * @returns {LinkWords}
 */
export function describe(state, now) {
  if (state.phase === "connected") return { light: "up", word: "Connected", sentence: "", canHurry: false };
  if (state.phase === "connecting") return connecting(state.attempt);
  if (state.phase === "waiting") {
    const left = Math.max(0, Math.ceil((state.until - now) / 1000));
    const sentence = `${state.verdict.sentence} Reconnecting in ${left} s (attempt ${state.attempt}).`;
    return { light: "trying", word: "Reconnecting", sentence, canHurry: true };
  }
  const verdict = state.phase === "ended" ? state.verdict : null;
  const isSignedOut = !verdict || verdict.code === SIGNED_OUT;
  return {
    light: "down", word: isSignedOut ? "Signed out" : "Closed", sentence: verdict?.sentence ?? "",
    canHurry: !isSignedOut,
  };
}

/** @param {number} attempt @returns {LinkWords} */
function connecting(attempt) {
  if (attempt === 0) return { light: "trying", word: "Connecting", sentence: "", canHurry: false };
  const sentence = `Reconnecting (attempt ${attempt})…`;
  return { light: "trying", word: "Reconnecting", sentence, canHurry: false };
}
