/**
 * The little markup that agents write, as values: paragraphs, headings, lists, code, links. Never HTML; what is no
 * markup here stays the text it is.
 */

/**
 * @typedef {(
 *   { kind: "text" | "code" | "strong" | "em", text: string } | { kind: "link", text: string, href: string }
 * )} Span
 * @typedef {(
 *   { kind: "paragraph" | "heading", source: string, lines: Span[][] }
 *   | { kind: "list", source: string, ordered: boolean, start: number, items: Span[][] }
 *   | { kind: "code", source: string, text: string }
 * )} Block  `source` tells whether a block changed
 */

const FENCE = /^\s{0,3}```/;
const HEADING = /^#{1,6}\s+(.*)$/;
const BULLET = /^\s{0,3}[-*•]\s+(.*)$/;
const NUMBER = /^\s{0,3}(\d{1,9})[.)]\s+(.*)$/;
const SPAN = new RegExp([
  /`([^`\n]+)`/, /\*\*([^*\n]+)\*\*/, /(?<![\w*])\*([^*\s][^*\n]*)\*(?![\w*])/,
  /\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)/, /(https?:\/\/[^\s<>"')\]]*[^\s<>"')\].,;:!?])/,
].map(({ source }) => source).join("|"), "g");

/**
 * @param {string} text
 * @returns {Block[]}
 */
export function blocksOf(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  /** @type {Block[]} */
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    if (!lines[at].trim()) at += 1;
    else at = [code, heading, list, paragraph].reduce((next, read) => next || read(lines, at, blocks), 0);
  }
  return blocks;
}

/**
 * Each reader takes the block that begins at a line and says where the next one does; 0 when it is not its kind.
 *
 * @typedef {(lines: string[], at: number, blocks: Block[]) => number} Reader
 */

/** @type {Reader} */
function code(lines, at, blocks) {
  if (!FENCE.test(lines[at])) return 0;
  const close = lines.findIndex((line, index) => index > at && FENCE.test(line));
  const end = close < 0 ? lines.length : close;
  blocks.push({ kind: "code", source: sourceOf(lines, at, end + 1), text: lines.slice(at + 1, end).join("\n") });
  return end + 1;
}

/** @type {Reader} */
function heading(lines, at, blocks) {
  const found = HEADING.exec(lines[at]);
  if (!found) return 0;
  blocks.push({ kind: "heading", source: lines[at], lines: [spansOf(found[1])] });
  return at + 1;
}

/** @type {Reader} */
function list(lines, at, blocks) {
  const ordered = NUMBER.test(lines[at]);
  const pattern = ordered ? NUMBER : BULLET;
  if (!pattern.test(lines[at])) return 0;
  /** @type {string[]} */
  const items = [];
  let end = at;
  for (; end < lines.length && lines[end].trim(); end += 1) {
    const found = pattern.exec(lines[end]);
    if (found) items.push(found[ordered ? 2 : 1]);
    else if (/^\s/.test(lines[end])) items[items.length - 1] += ` ${lines[end].trim()}`;
    else break;
  }
  const start = ordered ? Number(NUMBER.exec(lines[at])?.[1]) : 1;
  blocks.push({ kind: "list", source: sourceOf(lines, at, end), ordered, start, items: items.map(spansOf) });
  return end;
}

/** @type {Reader} */
function paragraph(lines, at, blocks) {
  let end = at + 1;
  const ends = [FENCE, HEADING, BULLET, NUMBER];
  while (end < lines.length && lines[end].trim() && !ends.some((pattern) => pattern.test(lines[end]))) end += 1;
  blocks.push({ kind: "paragraph", source: sourceOf(lines, at, end), lines: lines.slice(at, end).map(spansOf) });
  return end;
}

/**
 * @param {string} text one line
 * @returns {Span[]}
 */
export function spansOf(text) {
  /** @type {Span[]} */
  const spans = [];
  let read = 0;
  for (const found of text.matchAll(SPAN)) {
    if (found.index > read) spans.push({ kind: "text", text: text.slice(read, found.index) });
    spans.push(spanOf(found));
    read = found.index + found[0].length;
  }
  if (read < text.length) spans.push({ kind: "text", text: text.slice(read) });
  return spans;
}

/**
 * @param {RegExpMatchArray} found
 * @returns {Span}
 */
function spanOf([, code, strong, em, label, target, address]) {
  if (code !== undefined) return { kind: "code", text: code };
  if (strong !== undefined) return { kind: "strong", text: strong };
  if (em !== undefined) return { kind: "em", text: em };
  return { kind: "link", text: label ?? address, href: target ?? address };
}

/**
 * @param {string[]} lines
 * @param {number} from
 * @param {number} to
 */
function sourceOf(lines, from, to) {
  return lines.slice(from, to).join("\n");
}
