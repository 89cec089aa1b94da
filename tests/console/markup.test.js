import assert from "node:assert/strict";
import { test } from "node:test";

import { blocksOf, spansOf } from "../../platform/city_hall/console/model/markup.js";

const kinds = (text) => blocksOf(text).map(({ kind }) => kind);
const plain = (text) => spansOf(text).map((span) => `${span.kind}:${span.text}`);

test("blank lines separate paragraphs, single ones break lines", () => {
  const [first, second] = blocksOf("one\ntwo\n\nthree");
  assert.equal(first.lines.length, 2);
  assert.equal(second.lines.length, 1);
});

test("headings, lists and code are told apart without blank lines", () => {
  assert.deepEqual(kinds("# Title\ntext\n- a\n- b\n1. x\n2. y\n```\ncode\n```\nend"),
    ["heading", "paragraph", "list", "list", "code", "paragraph"]);
});

test("a list keeps its numbers and its wrapped lines", () => {
  const [list] = blocksOf("3. three\n   goes on\n4) four");
  assert.deepEqual([list.ordered, list.start], [true, 3]);
  assert.deepEqual(list.items.map(([span]) => span.text), ["three goes on", "four"]);
});

test("code that is still being written is code already", () => {
  const [block] = blocksOf("```python\nprint(1)\n# not a heading");
  assert.deepEqual([block.kind, block.text], ["code", "print(1)\n# not a heading"]);
});

test("spans: code, strong, emphasis, links", () => {
  assert.deepEqual(plain("see `a*b*`, **this**, *that* and [docs](https://x.org/a)"),
    ["text:see ", "code:a*b*", "text:, ", "strong:this", "text:, ", "em:that", "text: and ", "link:docs"]);
});

test("an address ends before the sentence does", () => {
  const address = "https://x.org/a?b=1";
  assert.deepEqual(spansOf(`(${address}).`)[1], { kind: "link", text: address, href: address });
});

test("only web addresses become links", () => {
  const text = "[x](javascript:alert(1)) data:text/html,hi";
  assert.deepEqual(plain(text), [`text:${text}`]);
});

test("arithmetic and markup stay the text they are", () => {
  assert.deepEqual(plain("2*3*4 <b>bold</b>"), ["text:2*3*4 <b>bold</b>"]);
});

test("no text is lost, whatever it is", () => {
  const text = "a ** b `c\n\n- \n```\n\n";
  assert.match(JSON.stringify(blocksOf(text)), /a \*\* b `c/);
});

test("long texts are read in time that grows with them, not with their square", () => {
  const started = performance.now();
  for (const piece of ["*a `b [c](http ", "[", "[c](http://x", "**", "http://,"]) {
    blocksOf(`${piece.repeat(300_000 / piece.length)}\n\n`.repeat(2));
  }
  assert.ok(performance.now() - started < 2000);
});
