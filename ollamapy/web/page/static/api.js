// Requests to the daemon: the only place that calls fetch. Answers are JSON; an error of the daemon is thrown as an ApiError.

/** An error that the daemon answered, or that it cannot be reached: status 0. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {string} [code]
   */
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @typedef {object} Asked
 * @property {any} [body] sent as JSON; a Blob as it is
 * @property {AbortSignal} [signal]
 * @property {Record<string, string>} [headers]
 */

/**
 * Send a request; the response when its head is there. Throws ApiError.
 * @param {string} method
 * @param {string} path
 * @param {Asked} [asked]
 * @returns {Promise<Response>}
 */
export async function open(method, path, { body, signal, headers = {} } = {}) {
  const isBlob = body instanceof Blob;
  const type = isBlob ? body.type || "application/octet-stream" : "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? headers : { "Content-Type": type, ...headers },
      body: body === undefined ? undefined : isBlob ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "the daemon cannot be reached", "unreachable");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/**
 * Send a request; the JSON of its answer, null if it has none. Throws ApiError.
 * @param {string} method
 * @param {string} path
 * @param {Asked} [asked]
 * @returns {Promise<any>}
 */
export async function ask(method, path, asked) {
  const text = await (await open(method, path, asked)).text();
  return text ? JSON.parse(text) : null;
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => ask("GET", path, { signal });
/** @param {string} path @param {any} [body] @param {AbortSignal} [signal] */
export const post = (path, body, signal) => ask("POST", path, { body, signal });
/** @param {string} path @param {any} body */
export const patch = (path, body) => ask("PATCH", path, { body });
/** @param {string} path @param {any} [body] */
export const remove = (path, body) => ask("DELETE", path, { body });

/** @param {Response} response */
async function errorOf(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error, code } = JSON.parse(text);
    return new ApiError(response.status, typeof error === "string" ? error : (error?.message ?? text), code);
  } catch {
    return new ApiError(response.status, text || response.statusText || `status ${response.status}`);
  }
}

/**
 * @typedef {object} StreamEvent
 * @property {number} id 0 for an event that is not numbered
 * @property {string} name
 * @property {any} data
 */

/**
 * The server-sent events of an answer, until it ends or breaks off.
 * @param {Response} response
 * @returns {AsyncGenerator<StreamEvent>}
 */
export async function* events(response) {
  let id = 0;
  let name = "message";
  let data = "";
  for await (const line of splitLines(response)) {
    if (line === "") {
      if (data) yield { id, name, data: JSON.parse(data) };
      [id, name, data] = [0, "message", ""];
    } else if (line.startsWith("data:")) data += line.slice(line[5] === " " ? 6 : 5);
    else if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("id:")) id = Number(line.slice(3)) || 0;
  }
}

/**
 * @param {Response} response
 * @returns {AsyncGenerator<string>} lines without their ends; also a last one that has none
 */
async function* splitLines(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) yield part.endsWith("\r") ? part.slice(0, -1) : part;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {}); // the reader is done with it, or has thrown
  }
}
