/**
 * A table whose rows stay the same elements while what they say changes, so that the focus, a selection and the
 * place where one reads survive every renewal. It sorts and filters nothing.
 */

import { h } from "./elements.js";

/**
 * @template Row
 * @typedef {{
 *   title: string, kind?: "text" | "number" | "line" | "code" | "actions",
 *   text?: (row: Row) => string, tone?: (row: Row) => string,
 *   node?: (now: () => Row) => HTMLElement, renew?: (element: HTMLElement, row: Row) => void,
 * }} Column  `text` and `tone` are told anew at every renewal; `node` is made once a row and renewed, and asks
 *   `now` what the row is
 */

/**
 * @template Row
 * @typedef {{ element: HTMLElement, row: Row, cells: [HTMLElement, Column<Row>][] }} Drawn
 */

/** @template Row */
export class Table {
  #body = h("tbody");
  #columns;
  #key;
  #empty;
  #table;
  element;
  /** @type {Map<string, Drawn<Row>>} */
  #drawn = new Map();

  /**
   * @param {{
   *   caption: string, columns: Column<Row>[], key: (row: Row) => string, empty: Element,
   * }} parts  `empty` stands in the table's place while there are no rows
   */
  constructor({ caption, columns, key, empty }) {
    this.#columns = columns;
    this.#key = key;
    this.#empty = empty;
    const heads = columns.map(({ title, kind = "text" }) => h("th", { scope: "col", "data-kind": kind },
      kind === "actions" ? h("span", { class: "unseen" }, title) : title));
    this.#table = h("table", {}, h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, ...heads)), this.#body);
    this.element = h("div", { class: "table" }, this.#table, empty);
    this.show([]);
  }

  /** @param {Row[]} rows in the order in which they shall stand */
  show(rows) {
    this.#table.hidden = rows.length === 0;
    this.#empty.toggleAttribute("hidden", rows.length > 0);
    const keys = new Set(rows.map(this.#key));
    for (const [key, { element }] of this.#drawn) {
      if (keys.has(key)) continue;
      element.remove();
      this.#drawn.delete(key);
    }
    rows.forEach((row, index) => {
      const { element } = this.#renewed(row);
      const there = this.#body.children[index] ?? null;
      if (there !== element) this.#body.insertBefore(element, there);
    });
  }

  /** @param {Row} row */
  #renewed(row) {
    const key = this.#key(row);
    const drawn = this.#drawn.get(key) ?? this.#draw(row);
    this.#drawn.set(key, drawn);
    drawn.row = row;
    for (const [inside, { text, tone, renew }] of drawn.cells) {
      const told = text?.(row);
      if (told !== undefined && inside.textContent !== told) inside.textContent = told;
      if (tone) inside.dataset.tone = tone(row);
      renew?.(inside, row);
    }
    return drawn;
  }

  /** @param {Row} row @returns {Drawn<Row>} */
  #draw(row) {
    /** @type {Drawn<Row>} */
    const drawn = { element: h("tr"), row, cells: [] };
    this.#columns.forEach((column, index) => {
      const { title, kind = "text" } = column;
      const inside = column.node?.(() => drawn.row) ?? h("span");
      const cell = h(index === 0 ? "th" : "td", { "data-kind": kind, "data-label": title }, inside);
      if (index === 0) cell.setAttribute("scope", "row");
      drawn.cells.push([inside, column]);
      drawn.element.append(cell);
    });
    return drawn;
  }
}
