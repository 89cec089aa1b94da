/** A token that was just made, shown this once: it stands nowhere else, and goes with the dialog. */

import { copyButton } from "../ui/copy.js";
import { openDialog } from "../ui/dialog.js";
import { h } from "../ui/elements.js";

/**
 * @param {{ title: string, token: string, facts: string[], signal: AbortSignal }} secret
 */
export function showSecret({ title, token, facts, signal }) {
  const text = h("code", { class: "token-text" }, token);
  const dialog = openDialog({
    title,
    signal,
    content: [
      h("p", { class: "question-text" }, "Copy it now: it is not shown again."),
      h("p", { class: "secret" }, text, copyButton(text)),
      ...facts.map((fact) => h("p", { class: "hint" }, fact)),
      h("footer", {}, h("button", { type: "button", class: "primary small", onclick: () => dialog.close() }, "Done")),
    ],
  });
  dialog.addEventListener("close", () => (text.textContent = ""));
}
