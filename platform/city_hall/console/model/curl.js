/** A call as a command for a terminal. The token is never in it, only the name of a variable that holds it. */

/**
 * @param {URL} url
 * @param {object} args
 * @param {string} [key]
 */
export function asCurl(url, args, key = "") {
  const headers = ["Authorization: Bearer $SMART_CITY_TOKEN", "Content-Type: application/json"];
  if (key) headers.push(`Idempotency-Key: ${key}`);
  return [
    `curl -X POST ${quoted(String(url))}`,
    ...headers.map((header) => `  -H "${header}"`),
    `  -d ${quoted(JSON.stringify(args))}`,
  ].join(" \\\n");
}

/** For a POSIX shell: nothing in it means anything. @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
