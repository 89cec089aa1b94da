/**
 * A chart over time: lines or an area, a scale that is easy to read, and under the pointer or the arrow keys what
 * each step amounts to. What it shows is told in its caption, too.
 */

import { areaOf, greatest, lineOf, roundAbove, stepAt, xOf } from "../model/plot.js";
import { h, svg } from "./elements.js";

/** @import { Column } from "../model/plot.js" */

/**
 * @typedef {{ name: string, column: Column, tone: string, isArea?: boolean }} Line
 * @typedef {{ at: number[], lines: Line[], sentence: string }} Plotted  `at`: when each step begins;
 *   `sentence`: all of it in words
 */

const HEIGHT = 132;
const MARGIN = { top: 8, bottom: 20, left: 44 };
const LEAST_WIDTH = 160;
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

export class Chart {
  #reading = h("span", { class: "reading" });
  #canvas = svg("svg", { class: "canvas", tabindex: "0", role: "img" });
  #cursor = svg("line", { class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom });
  #format;
  /** @type {Plotted} */
  #plotted = { at: [], lines: [], sentence: "" };
  #width = 0;
  /** @type {number | null} */
  #step = null;
  element;

  /**
   * @param {string} title
   * @param {(value: number) => string} format
   */
  constructor(title, format) {
    this.#format = format;
    this.element = h("figure", { class: "chart" },
      h("figcaption", {}, h("span", { class: "chart-title" }, title), this.#reading));
    this.element.append(this.#canvas);
    this.#canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerleave", () => this.#read(null));
    this.#canvas.addEventListener("blur", () => this.#read(null));
    this.#canvas.addEventListener("keydown", (event) => this.#move(event));
    new ResizeObserver(([entry]) => this.#resize(entry?.contentRect.width ?? 0)).observe(this.element);
    this.#canvas.setAttribute("aria-label", title);
  }

  /** @param {Plotted} plotted */
  show(plotted) {
    this.#plotted = plotted;
    this.#canvas.setAttribute("aria-label",
      `${this.element.querySelector(".chart-title")?.textContent}. ${plotted.sentence} Arrow keys read step by step.`);
    this.#draw();
    this.#read(this.#step);
  }

  /** @param {number} width */
  #resize(width) {
    const wanted = Math.max(LEAST_WIDTH, Math.floor(width));
    if (wanted === this.#width) return;
    this.#width = wanted;
    this.#draw();
  }

  get #frame() {
    const top = roundAbove(greatest(this.#plotted.lines.map(({ column }) => column)));
    return { width: this.#width - MARGIN.left, height: HEIGHT - MARGIN.top - MARGIN.bottom, top };
  }

  #draw() {
    if (this.#width === 0) return;
    const frame = this.#frame;
    this.#canvas.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT}`);
    const lines = this.#plotted.lines.flatMap(({ column, tone, isArea }) => [
      isArea ? svg("path", { class: "area", "data-tone": tone, d: areaOf(column, frame) }) : null,
      svg("path", { class: "line", "data-tone": tone, d: lineOf(column, frame) }),
    ]);
    this.#canvas.replaceChildren(...this.#scale(frame), ...this.#times(frame),
      svg("g", { transform: `translate(${MARGIN.left} ${MARGIN.top})` }, ...lines), this.#cursor);
  }

  /** @param {{ width: number, height: number, top: number }} frame */
  #scale({ height, top }) {
    return [0, 0.5, 1].flatMap((part) => {
      const y = MARGIN.top + height - part * height;
      return [
        svg("line", { class: "grid", x1: MARGIN.left, x2: this.#width, y1: y, y2: y }),
        svg("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, this.#format(part * top)),
      ];
    });
  }

  /** @param {{ width: number }} frame */
  #times({ width }) {
    const { at } = this.#plotted;
    const places = /** @type {const} */ ([[0, "start"], [0.5, "middle"], [1, "end"]]);
    return places.map(([part, anchor]) => svg("text", {
      x: MARGIN.left + part * width, y: HEIGHT - 4, "text-anchor": anchor,
    }, at.length > 0 ? time.format(at[Math.round(part * (at.length - 1))]) : ""));
  }

  /** @param {PointerEvent} event */
  #point({ clientX }) {
    const { left, width } = this.#canvas.getBoundingClientRect();
    const x = ((clientX - left) / width) * this.#width - MARGIN.left;
    this.#read(stepAt(x, this.#plotted.at.length, this.#frame.width));
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const last = this.#plotted.at.length - 1;
    const step = this.#step ?? last;
    const next = { ArrowLeft: step - 1, ArrowRight: step + 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.#read(Math.max(0, Math.min(last, next)));
  }

  /** What a step amounts to; the newest when none is asked for. @param {number | null} step */
  #read(step) {
    this.#step = step;
    const { at, lines } = this.#plotted;
    const shown = step ?? Math.max(0, at.length - 1);
    const moment = at[shown];
    const x = MARGIN.left + xOf(shown, at.length, this.#frame.width);
    this.#cursor.setAttribute("x1", String(x));
    this.#cursor.setAttribute("x2", String(x));
    this.#cursor.toggleAttribute("hidden", step === null);
    this.#reading.replaceChildren(...(moment === undefined ? [] : [
      ...lines.map(({ name, column, tone }) => {
        const value = column[shown];
        const told = value === null || value === undefined ? "–" : this.#format(value);
        return h("span", { class: "key", "data-tone": tone }, name ? `${name} ${told}` : told);
      }),
      h("span", { class: "moment" }, time.format(moment)),
    ]));
  }
}

/** A column as one small line, for a row of a table. @param {number[]} column */
export function sparkline(column) {
  const frame = { width: 96, height: 18, top: greatest([column]) || 1 };
  return svg("svg", { class: "sparkline", viewBox: "-1 -1 98 20", "aria-hidden": "true" },
    svg("path", { class: "line", "data-tone": "count", d: lineOf(column, frame) }));
}
