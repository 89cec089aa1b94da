/** Where things stand on a chart: scales, ticks and paths as numbers and text. It draws nothing. */

/** @typedef {(number | null)[]} Column  one value for each step; null where nothing is known */

/** The smallest round number that the value is not above, and whose half is round, too. @param {number} value */
export function roundAbove(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const times = [1, 2, 3, 4, 5, 6, 8, 10].find((one) => one * power >= value) ?? 10;
  return times * power;
}

/** The greatest of all values, 0 when there is none. @param {Column[]} columns */
export function greatest(columns) {
  return columns.flat().reduce((/** @type {number} */ most, value) => Math.max(most, value ?? 0), 0);
}

/**
 * A column as the path of a line; it breaks where a value is missing.
 *
 * @param {Column} column
 * @param {{ width: number, height: number, top: number }} frame  `top`: the value at the upper edge
 */
export function lineOf(column, { width, height, top }) {
  let isDrawing = false;
  return column.map((value, step) => {
    if (value === null) {
      isDrawing = false;
      return "";
    }
    const command = isDrawing ? "L" : "M";
    isDrawing = true;
    return `${command}${round(xOf(step, column.length, width))} ${round(height - (value / top) * height)}`;
  }).join("");
}

/**
 * A column of counts as the path of an area that stands on the ground.
 *
 * @param {Column} column
 * @param {{ width: number, height: number, top: number }} frame
 */
export function areaOf(column, frame) {
  const line = lineOf(column, frame);
  return line ? `${line}L${round(frame.width)} ${frame.height}L0 ${frame.height}Z` : "";
}

/**
 * Where a step stands; steps fill the width from edge to edge.
 *
 * @param {number} step
 * @param {number} steps
 * @param {number} width
 */
export function xOf(step, steps, width) {
  return steps > 1 ? (step / (steps - 1)) * width : width / 2;
}

/**
 * Which step is nearest.
 *
 * @param {number} x
 * @param {number} steps
 * @param {number} width
 */
export function stepAt(x, steps, width) {
  return Math.max(0, Math.min(steps - 1, Math.round((x / width) * (steps - 1))));
}

/** @param {number} number */
function round(number) {
  return Math.round(number * 10) / 10;
}
