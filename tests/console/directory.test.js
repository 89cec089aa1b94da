import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const root = new URL("../../", import.meta.url);
const read = (path) => readFileSync(new URL(path, root), "utf8");
const ENTRY = /page: "(\w+)", title: "([\w ]+)", icon: "\w+", scope: "([\w.]*)", key: "(\w)"/g;

test("the document tells of every operator's page, of its scope and its key, and of no other", () => {
  const document = read("docs/console.md");
  const source = read("platform/city_hall/console/pages/directory.js").replaceAll(/\s+/g, " ");
  const pages = [...source.matchAll(ENTRY)].map(([, page, title, scope, key]) => ({ page, title, scope, key }));
  assert.ok(pages.length > 6);
  for (const { page, title, scope } of pages) {
    assert.match(document, new RegExp(`\\| ${title} \\| \`#/${page}[^\`]*\` \\| ${scope ? `\`${scope}\`` : "any scope"}`));
  }
  const told = /\| `g` then (.+?) \|/.exec(document)?.[1].match(/\w/g);
  assert.deepEqual(told?.sort(), ["h", ...pages.map(({ key }) => key)].sort());
});
