/**
 * A part of a page that is asked for again and again: loading, there, out of date, or not to be had. It says
 * which, and while the platform is away it keeps what was known.
 */

import { exactClock, h } from "./elements.js";

/** @import { Seen, Watch } from "../model/watch.js" */
/** @import { Place } from "../pages/place.js" */

const TICK_MS = 500;
const LINES = 4;

/**
 * @template T
 * @param {Place} place
 * @param {Watch<T>} watch
 * @param {HTMLElement} content shown once there is something to show
 * @param {(value: T) => void} draw
 */
export function live(place, watch, content, draw) {
  const strip = h("div", { class: "away", hidden: true });
  const waiting = h("div", { class: "loading", role: "status" },
    h("span", { class: "unseen" }, "Loading…"),
    ...Array.from({ length: LINES }, () => h("span", { class: "line" })));
  const trouble = h("div", { class: "note", hidden: true });
  const element = h("div", { class: "live" }, strip, waiting, trouble, content);
  let wasAway = false;
  /** @type {T | null} */
  let drawn = null;

  /** @param {Seen<T>} seen */
  const show = (seen) => {
    const { value, error } = seen;
    const isAway = error !== null;
    if (value !== null && value !== drawn) draw((drawn = value));
    waiting.hidden = value !== null || isAway;
    content.hidden = value === null;
    element.toggleAttribute("data-away", isAway);
    strip.hidden = value === null || !isAway;
    trouble.hidden = value !== null || !isAway;
    if (isAway) (value === null ? tellTrouble : tellAway)(seen, watch, value === null ? trouble : strip);
    if (isAway !== wasAway) place.say(isAway ? error.message : "The platform is back.");
    wasAway = isAway;
  };
  keepUp(place, watch, show);
  return element;
}

/**
 * Asks while the page is looked at, and ticks while it waits.
 *
 * @template T
 * @param {Place} place
 * @param {Watch<T>} watch
 * @param {(seen: Seen<T>) => void} show
 */
function keepUp(place, watch, show) {
  const forget = watch.changed.listen(show);
  const ticking = setInterval(() => watch.seen.error && show(watch.seen), TICK_MS);
  const look = () => (document.hidden ? watch.stop() : watch.start());
  document.addEventListener("visibilitychange", look, { signal: place.signal });
  addEventListener("online", () => watch.now(), { signal: place.signal });
  place.signal.addEventListener("abort", () => {
    clearInterval(ticking);
    forget();
    watch.stop();
  });
  show(watch.seen);
  look();
}

/**
 * There is something from before.
 *
 * @template T
 * @param {Seen<T>} seen
 * @param {Watch<T>} watch
 * @param {HTMLElement} strip
 */
function tellAway({ at, error, nextAt }, watch, strip) {
  const sentence = `${error?.message} This is how things stood at ${exactClock(at)}.`;
  renew(strip, sentence, nextAt, watch);
}

/**
 * There is nothing at all.
 *
 * @template T
 * @param {Seen<T>} seen
 * @param {Watch<T>} watch
 * @param {HTMLElement} trouble
 */
function tellTrouble({ error, nextAt }, watch, trouble) {
  renew(trouble, error?.message ?? "", nextAt, watch);
}

/**
 * Renews the words and leaves the button where it is, as somebody may be about to press it.
 *
 * @template T
 * @param {HTMLElement} place
 * @param {string} sentence
 * @param {number} nextAt
 * @param {Watch<T>} watch
 */
function renew(place, sentence, nextAt, watch) {
  if (!place.firstElementChild) {
    place.append(h("p", { class: "sentence" }), h("p", { class: "when" }),
      h("button", { class: "small", type: "button", onclick: () => watch.now() }, "Try now"));
  }
  const left = Math.max(0, Math.ceil((nextAt - Date.now()) / 1000));
  const [first, second] = place.children;
  if (first && first.textContent !== sentence) first.textContent = sentence;
  if (second) second.textContent = nextAt === 0 || left === 0 ? "Trying…" : `Trying again in ${left} s.`;
}
