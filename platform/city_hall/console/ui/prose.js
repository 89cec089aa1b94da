/** Draws an agent's text, and redraws only the blocks that changed while it is being written. */

import { blocksOf } from "../model/markup.js";
import { h } from "./elements.js";

/** @import { Block, Span } from "../model/markup.js" */

export class Prose {
  element = h("div", { class: "prose" });
  /** @type {string[]} */
  #sources = [];

  /** @param {string} text */
  show(text) {
    const blocks = blocksOf(text);
    blocks.forEach((block, index) => {
      const source = `${block.kind}:${block.source}`;
      if (this.#sources[index] === source) return;
      this.#sources[index] = source;
      const drawn = draw(block);
      if (this.element.children[index]) this.element.children[index].replaceWith(drawn);
      else this.element.append(drawn);
    });
    this.#sources.length = blocks.length;
    while (this.element.children.length > blocks.length) this.element.lastElementChild?.remove();
  }
}

/** @param {Block} block */
function draw(block) {
  if (block.kind === "code") return h("pre", { tabindex: "0" }, h("code", {}, block.text));
  if (block.kind === "list") return drawList(block);
  return h(block.kind === "heading" ? "h3" : "p", {}, ...block.lines.flatMap(drawLine));
}

/** @param {Extract<Block, { kind: "list" }>} list */
function drawList({ ordered, start, items }) {
  const entries = items.map((spans) => h("li", {}, ...spans.map(drawSpan)));
  return ordered ? h("ol", { start }, ...entries) : h("ul", {}, ...entries);
}

/**
 * @param {Span[]} spans
 * @param {number} index
 */
function drawLine(spans, index) {
  const drawn = spans.map(drawSpan);
  return index === 0 ? drawn : [h("br"), ...drawn];
}

/** @param {Span} span */
function drawSpan(span) {
  if (span.kind === "text") return span.text;
  if (span.kind === "link") {
    return h("a", { href: span.href, target: "_blank", rel: "noopener noreferrer" }, span.text);
  }
  return h(span.kind, {}, span.text);
}
