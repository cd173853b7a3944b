// The tree of a chat's messages: paths, branches and leaves. Pure.

/** @typedef {Map<string, Message>} Messages */

/**
 * The messages from the root to this one.
 * @param {Messages} messages
 * @param {string | null} id
 * @returns {Message[]}
 */
export function pathTo(messages, id) {
  const path = [];
  for (let at = id ? messages.get(id) : undefined; at && path.length <= messages.size; at = at.parent ? messages.get(at.parent) : undefined) path.push(at);
  return path.reverse();
}

/**
 * The children of each message, in order of creation; of the roots under null.
 * @param {Messages} messages
 * @returns {Map<string | null, Message[]>}
 */
export function childrenOf(messages) {
  /** @type {Map<string | null, Message[]>} */
  const found = new Map();
  for (const message of messages.values()) {
    const siblings = found.get(message.parent);
    if (siblings) siblings.push(message);
    else found.set(message.parent, [message]);
  }
  return found;
}

/**
 * The leaf that is reached from a message by the newest children.
 * @param {Messages} messages
 * @param {string} id
 */
export function leafOf(messages, id) {
  const children = childrenOf(messages);
  let at = id;
  for (let next = children.get(at)?.at(-1); next; next = children.get(at)?.at(-1)) at = next.id;
  return at;
}

/**
 * A message and everything below it.
 * @param {Messages} messages
 * @param {string} id
 * @returns {Set<string>}
 */
export function subtree(messages, id) {
  const children = childrenOf(messages);
  const found = new Set([id]);
  for (const each of found) for (const child of children.get(each) ?? []) found.add(child.id);
  return found;
}
