/** What a page is given: where it stands, what it may do, and how it speaks to whoever looks at it. */

import { h } from "../ui/elements.js";

/** @import { Clock } from "../client/index.js" */
/** @import { Access } from "../model/access.js" */
/** @import { Route } from "../model/routes.js" */
/** @import { Child } from "../ui/elements.js" */

/**
 * @typedef {{
 *   access: Access, route: Route, signal: AbortSignal, clock: Clock,
 *   say: (sentence: string) => void, toast: (sentence: string, tone?: "good" | "bad") => void,
 * }} Place  `signal` ends with the page; `say` is for screen readers alone
 * @typedef {(place: Place) => HTMLElement} DrawPage
 */

/**
 * The sheet of paper that every page is: its heading, what can be done, and what there is to see.
 *
 * @param {{ title: string, about: string, back?: { href: string, label: string }, tools?: Child[] }} heading
 * @param {...Child} body
 */
export function sheet({ title, about, back, tools = [] }, ...body) {
  return h("main", { class: "page", id: "page", tabindex: "-1" },
    h("header", { class: "heading" },
      h("div", { class: "words" },
        back ? h("a", { class: "back", href: back.href }, back.label) : null,
        h("h1", {}, title), h("p", { class: "about" }, about)),
      ...tools),
    h("div", { class: "page-body" }, ...body));
}

/**
 * Says that there is nothing, and what would make something.
 *
 * @param {string} headline
 * @param {...Child} rest
 */
export function nothing(headline, ...rest) {
  return h("div", { class: "note empty" }, h("p", { class: "headline" }, headline), ...rest);
}
