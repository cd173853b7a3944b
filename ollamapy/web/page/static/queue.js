// Messages that wait for an answer: each is sent to its chat once the answers of that chat are written, also while another chat is
// open. They outlive reloads of this tab.

import { showError } from "./dialogs.js";
import { store } from "./state.js";

const KEPT = "ollamapy.queue"; // in the session's storage

/** @typedef {(chat: string, content: string | Part[]) => Promise<void>} Send */

/** @type {Set<Queued>} those that are being sent */
const going = new Set();
/** @type {Set<string>} chats of which it is known whether an answer is being written */
const known = new Set();

/** Send what waits by `send`, from now on. @param {Send} send */
export function setup(send) {
  store.set({ queue: kept() });
  store.watch(["live", "queue", "chat", "loading"], () => {
    keep();
    for (const each of due()) go(each, send);
  });
}

/** Send a message once the open chat's answer is written. @param {string | Part[]} content */
export function enqueue(content) {
  store.set({ queue: [...store.now.queue, { chat: store.now.chat.id ?? "", content }] });
}

/** Take a message out of the queue. @param {Queued} queued */
export function unqueue(queued) {
  store.set({ queue: store.now.queue.filter((each) => each !== queued) });
}

/** Forget what waits in a chat, which is deleted. @param {string} chat */
export function forgetQueue(chat) {
  store.set({ queue: store.now.queue.filter((each) => each.chat !== chat) });
}

/** Try again to send a message that could not be sent. @param {Queued} queued */
export const sendAgain = (queued) => mark(queued, false);

/** @param {Queued} queued @param {boolean} failed */
function mark(queued, failed) {
  store.set({ queue: store.now.queue.map((each) => (each === queued ? { ...each, failed } : each)) });
}

/** The first message of each chat that has no answer to wait for. */
function due() {
  const { queue, live, chat, loading } = store.now;
  const busy = new Set([...live.values()].map((answer) => answer.chat));
  for (const id of busy) known.add(id);
  if (chat.id && !loading) known.add(chat.id);
  const firsts = queue.filter((each, index) => queue.findIndex((other) => other.chat === each.chat) === index);
  return firsts.filter((each) => known.has(each.chat) && !busy.has(each.chat) && !each.failed && !going.has(each));
}

/** @param {Queued} queued @param {Send} send */
async function go(queued, send) {
  going.add(queued);
  try {
    await send(queued.chat, queued.content);
    unqueue(queued);
  } catch (error) {
    mark(queued, true);
    showError(error);
  } finally {
    going.delete(queued);
  }
}

function keep() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(store.now.queue));
  } catch {
    // storage is off or full: what waits is lost when the tab is closed
  }
}

/** @returns {Queued[]} */
function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  } catch {
    return [];
  }
}
