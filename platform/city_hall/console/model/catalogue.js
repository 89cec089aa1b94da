/** The platform's operations, as its OpenAPI document tells of them. */

/**
 * @typedef {Record<string, any>} Schema  JSON Schema, as the document has it
 * @typedef {{
 *   name: string, service: string, operation: string, path: string, summary: string, description: string,
 *   scope: string, isForSessions: boolean, isReadOnly: boolean, isDestructive: boolean, deadlineSeconds: number,
 *   takesKey: boolean, schema: Schema, example: object,
 * }} Operation  `name`: "post_office.list_channels"; `scope`: "" when any token will do
 */

const PREFIX = "/soa/";

/**
 * @param {any} document /openapi.json
 * @returns {Operation[]} by service, in the document's order
 */
export function operationsOf(document) {
  const found = Object.entries(document.paths ?? {}).filter(([path]) => path.startsWith(PREFIX));
  return found.map(([path, { post }]) => describe(path, post, document)).sort(byService);
}

/**
 * @param {Operation} operation
 * @param {string} filter words that must all occur
 */
export function isFound({ name, summary, scope }, filter) {
  const text = `${name} ${summary} ${scope}`.toLowerCase();
  return filter.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** Who may call it, in words. @param {Operation} operation */
export function whoMay({ scope, isForSessions }) {
  if (!scope) return "Any token";
  return `A token with ${scope}${isForSessions ? ", or a session for itself" : ""}`;
}

/**
 * @param {string} path
 * @param {any} post
 * @param {any} document
 * @returns {Operation}
 */
function describe(path, post, document) {
  const [service = "", operation = ""] = path.slice(PREFIX.length).replace("-", "_").split("/");
  const body = post.requestBody?.content?.["application/json"] ?? {};
  return {
    name: `${service}.${operation}`, service, operation, path,
    summary: post.summary ?? "", description: flowing(post.description ?? ""), scope: post["x-scope"] ?? "",
    isForSessions: (post.security ?? []).some((/** @type {object} */ way) => "session" in way),
    isReadOnly: post["x-read-only"] === true, isDestructive: post["x-destructive"] === true,
    deadlineSeconds: post["x-deadline-seconds"] ?? 0, takesKey: "key" in (body.schema?.properties ?? {}),
    schema: resolved(body.schema ?? {}, document), example: body.example ?? exampleIn(body),
  };
}

/** Lines are broken in the source, where paragraphs have no need of it. @param {string} text */
function flowing(text) {
  return text.split(/\n{2,}/).map((paragraph) => paragraph.replaceAll("\n", " ")).join("\n\n");
}

/** @param {any} body */
function exampleIn({ examples = {} }) {
  const [first] = Object.values(examples);
  return /** @type {any} */ (first)?.value ?? {};
}

/**
 * A schema with what it refers to in its place; nothing refers to itself here, and nothing goes deeper than this.
 *
 * @param {any} schema
 * @param {any} document
 * @param {number} depth
 * @returns {any}
 */
function resolved(schema, document, depth = 0) {
  if (depth > 12 || typeof schema !== "object" || schema === null) return schema;
  if (Array.isArray(schema)) return schema.map((part) => resolved(part, document, depth + 1));
  if (typeof schema.$ref === "string") return resolved(lookedUp(schema.$ref, document), document, depth + 1);
  const parts = Object.entries(schema).map(([name, part]) => [name, resolved(part, document, depth + 1)]);
  return Object.fromEntries(parts);
}

/**
 * @param {string} reference "#/components/schemas/Problem"
 * @param {any} document
 */
function lookedUp(reference, document) {
  return reference.slice(2).split("/").reduce((part, name) => part?.[name], document) ?? {};
}

/**
 * @param {Operation} one
 * @param {Operation} other
 */
function byService(one, other) {
  return one.service.localeCompare(other.service);
}
