/** What passes through the platform: requests, messages, refusals and how long they take, over the last hours. */

import { grouped } from "../model/measures.js";
import { addressOf } from "../model/routes.js";
import { countsOf, duration, refusalsOf, rowsOf, summed } from "../model/traffic.js";
import { Watch } from "../model/watch.js";
import { Chart, sparkline } from "../ui/chart.js";
import { h } from "../ui/elements.js";
import { live } from "../ui/live.js";
import { Table } from "../ui/table.js";
import { nothing, sheet } from "./place.js";

/** @import { Figures, Row, Traffic } from "../model/traffic.js" */
/** @import { Place } from "./place.js" */

const EVERY_MS = 5000;
const SPANS = [["15", "15 minutes"], ["60", "An hour"], ["360", "6 hours"], ["1440", "A day"]];
const USUAL = "60";

/** @param {Place} place */
export function trafficPage(place) {
  const { query, rest } = place.route;
  const span = h("select", { name: "span" }, ...SPANS.map(([minutes, words]) =>
    h("option", { value: minutes, selected: minutes === (query.span ?? USUAL) }, words)));
  const parts = rest ? ofOne(place, rest) : ofAll();
  /** How far this machine's clock is ahead of the platform's, which counts; known from its first answer. */
  let ahead = NaN;
  const ask = async (/** @type {object} */ args, /** @type {AbortSignal} */ signal) => {
    const figures = await place.access.call("traffic_cop.get_traffic_analytics", args, { signal });
    ahead = place.clock.now() - Date.parse(figures.to);
    return figures;
  };
  /** @type {Watch<Figures>} */
  const watch = new Watch(async (signal) => {
    if (Number.isNaN(ahead)) await ask({}, signal);
    const since = place.clock.now() - ahead - Number(span.value) * 60_000;
    return ask({ since: new Date(since).toISOString() }, signal);
  }, { every: EVERY_MS, clock: place.clock });
  span.addEventListener("change", () => {
    const chosen = span.value === USUAL ? "" : span.value;
    history.replaceState(null, "", addressOf("traffic", rest, { span: chosen }));
    watch.now();
  });
  return sheet({
    title: rest || "Traffic", about: "All instances together, a few seconds old",
    ...(rest ? { back: { href: addressOf("traffic"), label: "Traffic" } } : {}),
    tools: [h("label", { class: "choice" }, "Last ", span)],
  }, live(place, watch, parts.element, parts.draw));
}

/** @typedef {{ element: HTMLElement, draw: (figures: Figures) => void }} Parts */

/** @returns {Parts} */
function ofAll() {
  const requests = new Chart("Requests", short);
  const messages = new Chart("Messages", short);
  const refusals = new Chart("Refusals", short);
  const operations = trafficTable("Operations", "Requests", "operation");
  const channels = trafficTable("Channels", "Messages", "channel");
  const element = h("div", { class: "traffic" },
    h("div", { class: "charts" }, requests.element, messages.element, refusals.element),
    h("section", {}, h("h2", {}, "Operations"), operations.element),
    h("section", {}, h("h2", {}, "Channels"), channels.element));
  const draw = (/** @type {Figures} */ figures) => {
    const all = [...Object.values(figures.operations), ...Object.values(figures.channels)];
    const length = figures.minutes.length;
    const of = (/** @type {Record<string, Traffic>} */ traffic) =>
      summed(Object.values(traffic).map(countsOf), length);
    plot(requests, figures, of(figures.operations), "count");
    plot(messages, figures, of(figures.channels), "count");
    plot(refusals, figures, summed(all.map((each) => refusalsOf(each, length)), length), "refused");
    operations.show(rowsOf(figures.operations));
    channels.show(rowsOf(figures.channels));
  };
  return { element, draw };
}

/**
 * @param {Place} place
 * @param {string} name of an operation, or of a channel
 * @returns {Parts}
 */
function ofOne(place, name) {
  const counts = new Chart("Handled", short);
  const refusals = new Chart("Refused", short);
  const latency = new Chart("How long it took", duration);
  const kind = place.route.query.of === "channel" ? "channels" : "operations";
  const none = nothing("Nothing passed here in this time.");
  const charts = h("div", { class: "charts" }, counts.element, refusals.element, latency.element);
  const facts = h("dl", { class: "figures" });
  const draw = (/** @type {Figures} */ figures) => {
    const found = Object.hasOwn(figures[kind], name) ? figures[kind][name] : undefined;
    none.hidden = found !== undefined;
    charts.hidden = facts.hidden = found === undefined;
    if (!found) return;
    plot(counts, figures, countsOf(found), "count");
    plot(refusals, figures, refusalsOf(found, figures.minutes.length), "refused");
    latency.show({
      at: figures.minutes.map(Date.parse), sentence: `Half took less than ${duration(found.total.p50_ms)}.`,
      lines: [
        { name: "p50", column: found.latency_ms.p50, tone: "count" },
        { name: "p95", column: found.latency_ms.p95, tone: "slow" },
      ],
    });
    const [row] = rowsOf({ [name]: found });
    if (row) facts.replaceChildren(...factsOf(row));
  };
  return { element: h("div", { class: "traffic" }, none, facts, charts), draw };
}

/** @param {Row} row */
function factsOf({ count, refused, codes, p50, p95, p99 }) {
  const told = [
    ["Handled", grouped(count)], ["Refused", refused > 0 ? `${grouped(refused)} (${codes})` : "0"],
    ["p50", duration(p50)], ["p95", duration(p95)], ["p99", duration(p99)],
  ];
  return told.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

/**
 * @param {Chart} chart
 * @param {Figures} figures
 * @param {number[]} column
 * @param {string} tone
 */
function plot(chart, { minutes, resolution_seconds }, column, tone) {
  const most = Math.max(0, ...column);
  const all = column.reduce((sum, value) => sum + value, 0);
  const step = resolution_seconds === 60 ? "a minute" : `${resolution_seconds / 60} minutes`;
  chart.show({
    at: minutes.map(Date.parse), lines: [{ name: "", column, tone, isArea: true }],
    sentence: `${grouped(all)} altogether, at most ${grouped(most)} in ${step}.`,
  });
}

/**
 * @param {string} caption
 * @param {string} counted
 * @param {string} of
 */
function trafficTable(caption, counted, of) {
  /** @type {Table<Row>} */
  const table = new Table({
    caption,
    key: ({ name }) => name,
    empty: nothing("Nothing passed here in this time."),
    columns: [
      { title: caption.slice(0, -1), node: (now) => link(now().name, of) },
      { title: counted, kind: "number", text: ({ count }) => grouped(count) },
      {
        title: "Over time", node: () => h("span"),
        renew: (element, { counts }) => element.replaceChildren(sparkline(counts)),
      },
      {
        title: "Refused", kind: "number", text: ({ refused }) => grouped(refused),
        tone: ({ refused }) => (refused > 0 ? "bad" : ""),
      },
      { title: "p50", kind: "number", text: ({ p50 }) => duration(p50) },
      { title: "p95", kind: "number", text: ({ p95 }) => duration(p95) },
      { title: "p99", kind: "number", text: ({ p99 }) => duration(p99) },
    ],
  });
  return table;
}

/**
 * @param {string} name
 * @param {string} of
 */
function link(name, of) {
  return h("a", { href: addressOf("traffic", name, { of: of === "channel" ? of : "" }) }, name);
}

/** 1200 as "1.2k", where room is scarce. @param {number} value */
function short(value) {
  if (value >= 1_000_000) return `${Number((value / 1_000_000).toPrecision(3))}M`;
  return value >= 10_000 ? `${Number((value / 1000).toPrecision(3))}k` : grouped(Number(value.toPrecision(3)));
}
