/** Short news at the edge of the page, gone after a while; screen readers are told them as they come. */

import { h } from "./elements.js";

const STAYS_MS = 7000;
const MOST = 3;

export class Toasts {
  element = h("div", { class: "toasts", role: "status" });

  /**
   * @param {string} sentence
   * @param {"good" | "bad"} [tone]
   */
  show(sentence, tone = "good") {
    const toast = h("p", { class: "toast", "data-tone": tone }, sentence);
    this.element.append(toast);
    while (this.element.children.length > MOST) this.element.firstElementChild?.remove();
    setTimeout(() => toast.remove(), STAYS_MS);
  }
}
