/** Elements from data. Text always goes in as text, so nothing that came over the wire can become markup. */

/**
 * @typedef {string | number | boolean | undefined | ((event: any) => void)} Attribute
 * @typedef {Node | string | false | null | undefined} Child
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Attribute>} [attributes] functions are listeners, named onclick and so on
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Attribute>} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Record<string, Attribute>} attributes
 * @param {Child[]} children
 * @returns {E}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/** Makes this the page. @param {Element} page */
export function show(page) {
  const app = document.getElementById("app");
  if (app?.firstElementChild !== page) app?.replaceChildren(page);
}

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const exactTime = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});

/**
 * The hour and minute of a moment, with the whole of it on hovering.
 *
 * @param {number} at NaN when it is not known
 */
export function clockTime(at) {
  const moment = new Date(at);
  if (Number.isNaN(at)) return h("time");
  return h("time", { datetime: moment.toISOString(), title: moment.toLocaleString() }, time.format(moment));
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** To the second. @param {number} at */
export function exactClock(at) {
  return clock.format(at);
}

/** To the millisecond. @param {number} at */
export function stopwatchTime(at) {
  return exactTime.format(at);
}
