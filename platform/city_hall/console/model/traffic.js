/** What passed through the platform, from `traffic_cop.get_traffic_analytics`, as series and as rows to read. */

/**
 * @typedef {{ p50: (number | null)[], p95: (number | null)[], p99: (number | null)[] }} Percentiles
 * @typedef {{
 *   count: number, refusals: Record<string, number>, p50_ms?: number, p95_ms?: number, p99_ms?: number,
 * }} Total
 * @typedef {{
 *   requests?: number[], messages?: number[], refusals: Record<string, number[]>, latency_ms: Percentiles,
 *   total: Total,
 * }} Traffic  `requests` of an operation, `messages` of a channel
 * @typedef {{
 *   from: string, to: string, resolution_seconds: number, minutes: string[],
 *   operations: Record<string, Traffic>, channels: Record<string, Traffic>,
 * }} Figures
 * @typedef {{
 *   name: string, count: number, refused: number, codes: string, p50?: number, p95?: number, p99?: number,
 *   counts: number[],
 * }} Row
 */

/** Added up step by step. @param {number[][]} columns @param {number} length */
export function summed(columns, length) {
  const sum = new Array(length).fill(0);
  for (const column of columns) column.forEach((value, step) => (sum[step] += value));
  return sum;
}

/** How many were handled in each step. @param {Traffic} traffic */
export function countsOf({ requests, messages }) {
  return requests ?? messages ?? [];
}

/**
 * How many were refused in each step, whatever for.
 *
 * @param {Traffic} traffic
 * @param {number} length
 */
export function refusalsOf({ refusals }, length) {
  return summed(Object.values(refusals), length);
}

/** The busiest first. @param {Record<string, Traffic>} traffic @returns {Row[]} */
export function rowsOf(traffic) {
  const rows = Object.entries(traffic).map(([name, each]) => {
    const { count, refusals, p50_ms: p50, p95_ms: p95, p99_ms: p99 } = each.total;
    const codes = Object.entries(refusals).sort(([, one], [, other]) => other - one);
    return {
      name, count, refused: codes.reduce((sum, [, n]) => sum + n, 0), p50, p95, p99, counts: countsOf(each),
      codes: codes.map(([code, n]) => `${code} ${n}`).join(", "),
    };
  });
  return rows.sort((one, other) => other.count - one.count || one.name.localeCompare(other.name));
}

/** "3.2 ms", "1.25 s". @param {number | null | undefined} milliseconds */
export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "–";
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toPrecision(3)} s`;
  return `${milliseconds >= 100 ? Math.round(milliseconds) : Number(milliseconds.toPrecision(2))} ms`;
}
