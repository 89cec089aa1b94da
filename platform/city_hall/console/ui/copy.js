/** Copying a text, with a word that it was done. Where the clipboard is closed to pages, the text is selected. */

import { h } from "./elements.js";

const SAID_MS = 1500;

/**
 * @param {HTMLElement} source whose text is copied
 * @param {string} [label]
 */
export function copyButton(source, label = "Copy") {
  const word = h("span", { "aria-live": "polite" }, label);
  const onclick = async () => {
    word.textContent = await copied(source) ? "Copied" : "Selected";
    setTimeout(() => (word.textContent = label), SAID_MS);
  };
  return h("button", { type: "button", class: "small copy", onclick }, word);
}

/** @param {HTMLElement} source */
async function copied(source) {
  try {
    await navigator.clipboard.writeText(source.textContent ?? "");
    return true;
  } catch {
    getSelection()?.selectAllChildren(source);
    return false;
  }
}
