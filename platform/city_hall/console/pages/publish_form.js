/** Publishing to a channel by hand: a text, or any object. The key makes a second try harmless. */

import { newKey } from "../client/index.js";
import { h } from "../ui/elements.js";
import { field, tellRefusal } from "../ui/fields.js";

/** @import { Place } from "./place.js" */

const SCOPE = "post_office.publish";

/**
 * @param {Place} place
 * @param {string} channel
 */
export function publishForm(place, channel) {
  if (!place.access.has(SCOPE)) {
    return h("p", { class: "hint" }, "To publish, a token needs the scope ", h("code", {}, SCOPE), ".");
  }
  const text = h("textarea", { name: "message", required: true, rows: 3 });
  const kind = h("select", { name: "kind" },
    h("option", { value: "text" }, "Text"), h("option", { value: "object" }, "JSON object"));
  const trouble = h("p", { class: "wrong", role: "alert" });
  const button = h("button", { class: "primary small", type: "submit" }, "Publish");
  let key = newKey();

  /** @param {Event} event */
  const onsubmit = async (event) => {
    event.preventDefault();
    trouble.textContent = "";
    const message = messageOf(text.value, kind.value);
    if (!message) {
      trouble.textContent = "That is not a JSON object, as in {\"pages\": 48}.";
      return;
    }
    button.disabled = true;
    try {
      const args = { channel, message };
      const told = await place.access.call("post_office.publish_to_agent_channel", args, { key });
      place.toast(told.status === "held"
        ? "Held: the store is away. It is published when the store is back."
        : `Published at ${told.offset}.${told.epoch} to ${told.subscribers} subscribers.`);
      text.value = "";
      key = newKey();
    } catch (error) {
      trouble.textContent = tellRefusal(form, error);
    } finally {
      button.disabled = false;
    }
  };
  const another = () => (key = newKey());
  text.addEventListener("input", another);
  kind.addEventListener("change", another);
  const form = h("form", { class: "publish", onsubmit },
    field("What all subscribers shall hear", text),
    h("div", { class: "row" }, h("label", {}, "As ", kind), button), trouble);
  return form;
}

/**
 * @param {string} text
 * @param {string} kind
 * @returns {object | null} null when it is none
 */
function messageOf(text, kind) {
  if (kind === "text") return { message: text };
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
