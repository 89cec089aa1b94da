/**
 * The little markup that agents write, as values: paragraphs, headings, lists, code, links. Never HTML; what
 * is no markup here stays the text it is.
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
const HEADING = /^#{1,6}\s+(?<text>.*)$/;
const BULLET = /^\s{0,3}[-*•]\s+(?<text>.*)$/;
const NUMBER = /^\s{0,3}(?<number>\d{1,9})[.)]\s+(?<text>.*)$/;
const CONTINUED = /^\s+\S/;
const SPAN = new RegExp([
  /`(?<code>[^`\n]+)`/,
  /\*\*(?<strong>[^*\n]+)\*\*/,
  /(?<![\w*])\*(?<em>[^*\s][^*\n]*)\*(?![\w*])/,
  /\[(?<label>[^[\]\n]+)\]\((?<target>https?:\/\/[^\s)]{1,2048})\)/,
  /(?<address>https?:\/\/[^\s<>"')\]]*[^\s<>"')\].,;:!?])/,
].map(({ source }) => source).join("|"), "g");

/**
 * @param {string} text
 * @returns {Block[]}
 */
export function blocksOf(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n").reverse();
  /** @type {Block[]} */
  const blocks = [];
  for (let line = lines.pop(); line !== undefined; line = lines.pop()) {
    if (line.trim()) blocks.push(blockFrom(line, lines));
  }
  return blocks;
}

/**
 * Reads the block that begins with a line, and takes what belongs to it from the lines that follow.
 *
 * @param {string} line
 * @param {string[]} rest last one first
 * @returns {Block}
 */
function blockFrom(line, rest) {
  if (FENCE.test(line)) return code(line, rest);
  const heading = HEADING.exec(line)?.groups;
  if (heading) return { kind: "heading", source: line, lines: [spansOf(heading.text ?? "")] };
  if (NUMBER.test(line)) return list(NUMBER, line, rest);
  if (BULLET.test(line)) return list(BULLET, line, rest);
  const lines = [line, ...takeWhile(rest, isPlain)];
  return { kind: "paragraph", source: lines.join("\n"), lines: lines.map(spansOf) };
}

/**
 * @param {string} fence
 * @param {string[]} rest
 * @returns {Block}
 */
function code(fence, rest) {
  const lines = takeWhile(rest, (line) => !FENCE.test(line));
  const close = rest.pop();
  return { kind: "code", source: [fence, ...lines, close ?? ""].join("\n"), text: lines.join("\n") };
}

/**
 * @param {RegExp} pattern of an entry
 * @param {string} first
 * @param {string[]} rest
 * @returns {Block}
 */
function list(pattern, first, rest) {
  const lines = [first, ...takeWhile(rest, (line) => pattern.test(line) || CONTINUED.test(line))];
  /** @type {string[]} */
  const entries = [];
  for (const line of lines) {
    const entry = pattern.exec(line)?.groups;
    entries.push(entry ? entry.text ?? "" : `${entries.pop()} ${line.trim()}`);
  }
  const start = Number(pattern.exec(first)?.groups?.number ?? 1);
  const items = entries.map(spansOf);
  return { kind: "list", source: lines.join("\n"), ordered: pattern === NUMBER, start, items };
}

/** @param {string} line */
function isPlain(line) {
  return line.trim() !== "" && ![FENCE, HEADING, BULLET, NUMBER].some((pattern) => pattern.test(line));
}

/**
 * @param {string[]} rest last one first; what is taken is gone from it
 * @param {(line: string) => boolean} isWanted
 */
function takeWhile(rest, isWanted) {
  const taken = [];
  for (let line = rest.at(-1); line !== undefined && isWanted(line); line = rest.at(-1)) {
    taken.push(line);
    rest.pop();
  }
  return taken;
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
    spans.push(spanOf(found.groups ?? {}));
    read = found.index + found[0].length;
  }
  if (read < text.length) spans.push({ kind: "text", text: text.slice(read) });
  return spans;
}

/**
 * @param {Record<string, string | undefined>} groups
 * @returns {Span}
 */
function spanOf({ code, strong, em, label, target, address = "" }) {
  if (code !== undefined) return { kind: "code", text: code };
  if (strong !== undefined) return { kind: "strong", text: strong };
  if (em !== undefined) return { kind: "em", text: em };
  return { kind: "link", text: label ?? address, href: target ?? address };
}
