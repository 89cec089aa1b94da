/** Things that are done to others: asked about first, done once somebody is sure, and told when they are done. */

import { sentenceOf } from "../model/words.js";
import { confirmed } from "../ui/dialog.js";

/** @import { Place } from "./place.js" */

/**
 * @param {Place} place
 * @param {{ title: string, text: string, action: string }} question
 * @param {() => Promise<string>} act  what it did, as a sentence
 * @param {() => void} renew  what is shown, whichever way it went
 */
export async function afterAsking(place, question, act, renew) {
  if (!await confirmed({ ...question, signal: place.signal })) return;
  try {
    place.toast(await act());
  } catch (error) {
    place.toast(sentenceOf(error), "bad");
  }
  renew();
}
