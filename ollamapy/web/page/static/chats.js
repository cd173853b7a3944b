// What can be done with conversations: each is a request, and then a change of the store.

import { events, get, open, patch, post, remove } from "./api.js";
import { prepareBlocks } from "./blocks.js";
import { showError, toast } from "./dialogs.js";
import { forgetQueue } from "./queue.js";
import { draftChat, prefs, store } from "./state.js";
import { Answer, follow } from "./streams.js";
import { t } from "./texts.js";
import { leafOf, pathTo, subtree } from "./tree.js";

const PAGE = 60; // chats of the list that are fetched at once
const MOST_LISTED = 1000; // those that the daemon lists at once
const UNDO = 10; // seconds
const POLL = 5000; // ms
const SHOWN = 6; // answers at the end of a chat whose HTML is asked for as soon as their ids are known

// ---- the list -------------------------------------------------------------------------------------------------------

let listed = 0; // the number of the latest request for the list
let fault = ""; // what was wrong with it

/** Fetch the list as it is searched and filtered now; `more`: its next page. @param {{more?: boolean}} [given] */
export async function loadChats({ more = false } = {}) {
  const { query, folder, archived, next } = store.now;
  const mine = ++listed;
  const limit = more ? PAGE : Math.min(MOST_LISTED, Math.max(PAGE, store.now.chats.length));
  const asked = new URLSearchParams({ limit: String(limit), archived: String(archived) });
  if (query) asked.set("q", query);
  if (folder !== null) asked.set("folder", folder);
  if (more && next) asked.set("before", next);
  try {
    const found = await get(`/api/chats?${asked}`);
    if (mine !== listed) return;
    const chats = found.chats.filter((/** @type {Chat} */ chat) => !deleting.has(chat.id ?? ""));
    setList({ chats: more ? [...store.now.chats, ...chats] : chats, next: found.next, folders: found.folders });
    store.set({ offline: false });
    showNotice(found.notice);
    fault = "";
    const shown = chats.find((/** @type {Chat} */ chat) => chat.id === store.now.chat.id);
    if (shown && shown.title !== store.now.chat.title) store.set({ chat: { ...store.now.chat, title: shown.title } });
  } catch (error) {
    const { status, message } = /** @type {import("./api.js").ApiError} */ (error);
    if (status === 0) return store.set({ offline: true });
    if (message !== fault) showError(error); // once, not every few seconds
    fault = message;
  }
}

/** Put a list into the store, unless it is the same as before: what is looked at then stays as it is.
 * @param {Pick<import("./state.js").State, "chats" | "next" | "folders">} list */
function setList(list) {
  const { chats, next, folders } = store.now;
  if (JSON.stringify(list) !== JSON.stringify({ chats, next, folders })) store.set(list);
}

/** Say once what the daemon did with a database that it could not use. @param {string} [notice] */
function showNotice(notice = "") {
  if (!notice || notice === prefs.now.notice) return;
  prefs.set({ notice });
  toast(notice, { kind: "error", seconds: 3600 });
}

/** Search the list. @param {string} query */
export function searchChats(query) {
  store.set({ query });
  return loadChats();
}

/** Show the chats of a folder, of all (null), or the archive. @param {string | null} folder @param {boolean} [archived] */
export function filterChats(folder, archived = false) {
  store.set({ folder, archived, next: null });
  return loadChats();
}

/** Replace a chat in the list, and the open one. @param {Chat} chat */
function replaceChat(chat) {
  const { chats, chat: current } = store.now;
  if (current.id === chat.id) store.set({ chat: { ...current, ...chat } });
  store.set({ chats: chats.map((each) => (each.id === chat.id ? { ...each, ...chat } : each)) });
}

// ---- the open chat ---------------------------------------------------------------------------------------------------

/** Begin a chat; it is created by its first message. @param {Partial<Chat>} [given] */
export function newChat(given = {}) {
  const model = store.now.chat.model || prefs.now.model;
  store.set({ chat: draftChat({ model, ...given }), messages: new Map(), loading: false });
  setAddress("");
}

/** @type {Promise<void>} */
let opening = Promise.resolve();

/** Resolves when the chat that was opened last is shown. */
export const opened = () => opening;

/** Open a chat, at a message if given. @param {string} id @param {string | null} [message] */
export function openChat(id, message = null) {
  opening = load(id, message);
  return opening;
}

/** @param {string} id @param {string | null} message */
async function load(id, message) {
  setAddress(id);
  store.set({ loading: true });
  try {
    const { messages, ...chat } = await get(`/api/chats/${encodeURIComponent(id)}`);
    if (address() !== id) return;
    show(chat, messages);
    if (!message) return;
    store.set({ target: message });
    if (!pathTo(store.now.messages, chat.head).some((each) => each.id === message)) await showBranch(message);
  } catch (error) {
    if (address() !== id) return;
    newChat();
    showError(error);
  } finally {
    store.set({ loading: false });
  }
}

/** @param {Chat} chat @param {Message[]} list */
function show(chat, list) {
  const messages = new Map(list.map((each) => [each.id, store.now.live.get(each.id)?.message ?? { ...each, content: each.content ?? "" }]));
  const answers = pathTo(messages, chat.head).filter(({ role, status, content }) => role === "assistant" && status !== "streaming" && content);
  prepareBlocks(/** @type {string} */ (chat.id), answers.slice(-SHOWN).map(({ id }) => id).reverse());
  store.set({ chat, messages });
  for (const message of messages.values())
    if (message.status === "streaming" && !store.now.live.has(message.id)) {
      [message.content, message.thinking, message.tool_calls] = ["", "", []]; // they come again as events
      run(new Answer(/** @type {string} */ (chat.id), message));
    }
}

/** Open the chat that the address names. */
export async function openFromAddress() {
  if (address()) await openChat(address());
  else newChat();
}

const address = () => decodeURIComponent(location.hash.replace(/^#\/?/, ""));

/** @param {string} id */
function setAddress(id) {
  if (address() !== id) history.pushState(null, "", id ? `#${id}` : location.pathname);
}

addEventListener("popstate", openFromAddress);

/** Change fields of the open chat, or of another one; a chat that is not created yet gets them with its first message.
 * @param {Partial<Chat>} fields @param {Chat} [chat] */
export async function changeChat(fields, chat = store.now.chat) {
  if (fields.model) prefs.set({ model: fields.model });
  if (chat === store.now.chat) store.set({ chat: { ...chat, ...fields } });
  if (!chat.id) return;
  try {
    replaceChat(await patch(`/api/chats/${chat.id}`, fields));
    announce(chat.id);
    if (fields.folder !== undefined || fields.archived !== undefined || fields.pinned !== undefined) await loadChats();
  } catch (error) {
    showError(error);
    if (chat.id === store.now.chat.id) store.set({ chat }); // as it was
  }
}

/** @type {Map<string, () => void>} chats that are deleted once the time to undo it is over */
const deleting = new Map();

/** Delete a chat; for some seconds this can be undone. @param {Chat} chat */
export function deleteChat(chat) {
  const id = chat.id;
  if (!id) return newChat();
  const really = () => {
    if (!deleting.delete(id)) return;
    forgetQueue(id);
    open("DELETE", `/api/chats/${id}`).then(() => announce(id), showError);
  };
  deleting.set(id, really);
  store.set({ chats: store.now.chats.filter((each) => each.id !== id) });
  const wasOpen = store.now.chat.id === id;
  if (wasOpen) newChat();
  const undo = () => {
    deleting.delete(id);
    loadChats();
    if (wasOpen) openChat(id);
  };
  toast(t("deleted", { title: chat.title || t("untitled") }), { action: t("undo"), run: undo, seconds: UNDO, onend: really });
}

/** Delete all chats, also those of the archive. */
export async function deleteAllChats() {
  try {
    await open("DELETE", "/api/chats?confirm=all");
  } catch (error) {
    return showError(error);
  }
  for (const { id } of store.now.chats) if (id) forgetQueue(id);
  newChat();
  await loadChats();
  announce("");
}

addEventListener("pagehide", () => {
  for (const id of deleting.keys()) fetch(`/api/chats/${id}`, { method: "DELETE", keepalive: true });
  deleting.clear();
});

/** Save a chat, or all of them (null), as a file. @param {string | null} id @param {"json" | "markdown"} [format] */
export function exportChat(id, format = "json") {
  const link = document.createElement("a");
  link.href = id ? `/api/chats/${id}/export?format=${format}` : "/api/chats/export";
  link.download = "";
  link.click();
}

/** Add the chats of a file: our export, Open WebUI's, ChatGPT's. @param {File} file */
export async function importChats(file) {
  try {
    const { chats, skipped } = await post("/api/chats/import", new Blob([file], { type: "application/json" }));
    await loadChats();
    const reasons = skipped.map((/** @type {any} */ each) => `${each.title || t("untitled")}: ${each.reason}`).join("\n");
    toast(t("imported", { n: chats.length }) + (reasons ? `\n${t("skipped", { n: skipped.length })}\n${reasons}` : ""), { seconds: 12 });
  } catch (error) {
    showError(error);
  }
}

// ---- messages --------------------------------------------------------------------------------------------------------

/** The answer that is being written on the path that is shown, if any. */
export function currentAnswer() {
  const { chat, messages, live } = store.now;
  return pathTo(messages, chat.head).map((each) => live.get(each.id)).find(Boolean) ?? null;
}

/** Send a message in the open chat. Throws ApiError if it was not taken. @param {string | Part[]} content */
export async function send(content) {
  const draft = store.now.chat;
  const chat = await created();
  try {
    await ask(chat, { content, parent: chat.head });
  } catch (error) {
    if (!draft.id && isRefusal(error)) discard(chat, draft);
    throw error;
  }
}

/** Did the daemon refuse a request, so that nothing of it is stored? @param {any} error */
const isRefusal = ({ status }) => status >= 400 && status < 500;

/** Delete a chat whose first message was refused, and go back to its draft: an empty chat would stay in the list. @param {Chat} chat @param {Chat} draft */
function discard(chat, draft) {
  if (store.now.chat.id === chat.id) newChat(draft);
  remove(`/api/chats/${chat.id}`).then(() => loadChats(), showError);
}

/** Send a message in a chat, at its head. Throws ApiError. @param {string} id @param {string | Part[]} content */
export function sendTo(id, content) {
  const { chat } = store.now;
  return chat.id === id ? send(content) : ask({ ...draftChat(), id }, { content });
}

/** Answer a user's message again, as a new branch. @param {string} parent @param {string} [model] */
export function retry(parent, model) {
  return ask(store.now.chat, { parent, ...(model ? { model } : {}) }).catch(showError);
}

/** Send a user's message again with other content, as a new branch. @param {Message} message @param {string | Part[]} content */
export function resend(message, content) {
  return ask(store.now.chat, { content, parent: message.parent }).catch(showError);
}

/** Go on with an answer that was stopped or cut. @param {string} id */
export function continueAnswer(id) {
  return ask(store.now.chat, { continue: id }).catch(showError);
}

/** Replace an answer's text by a new branch, without a model. @param {Message} message @param {string} content */
export async function editAnswer(message, content) {
  const { chat } = store.now;
  try {
    const made = await post(`/api/chats/${chat.id}/messages`, { role: message.role, content, parent: message.parent, answer: false });
    store.now.messages.set(made.id, made);
    store.touch("messages");
    await changeChat({ head: made.id });
  } catch (error) {
    showError(error);
  }
}

/** The open chat, created if it is not yet. @returns {Promise<Chat>} */
async function created() {
  const { chat } = store.now;
  if (chat.id) return chat;
  const { model, system, options, format, think, keep_alive, folder, temporary, title } = chat;
  const made = await post("/api/chats", { model, system, options, format, think, keep_alive, folder, temporary, title });
  store.set({ chat: { ...chat, ...made }, chats: made.temporary ? store.now.chats : [made, ...store.now.chats] });
  setAddress(made.id);
  return store.now.chat;
}

/** Post a message and follow its answer. Resolves when both messages have their ids. @param {Chat} chat @param {any} body */
async function ask(chat, body) {
  const response = await open("POST", `/api/chats/${chat.id}/messages?html=true`, { body });
  const stream = events(response);
  const first = (await stream.next()).value;
  if (!first || first.name !== "message") throw new Error(first?.data?.message ?? t("brokenOff"));
  const answer = new Answer(/** @type {string} */ (chat.id), place(chat, body, first.data));
  answer.last = first.id;
  run(answer, stream);
  announce(answer.chat);
  loadChats(); // it has a title now, and is the newest
}

/**
 * Put a message and its answer into the open chat; the answer's message.
 * @param {Chat} chat @param {any} body @param {{user: string | null, assistant: string, parent: string | null}} ids
 * @returns {Message}
 */
function place(chat, body, { user, assistant, parent }) {
  const now = new Date().toISOString();
  const isShown = store.now.chat.id === chat.id;
  const messages = isShown ? store.now.messages : new Map();
  if (user) {
    const parts = Array.isArray(body.content) ? body.content : undefined;
    const content = parts ? parts.filter((/** @type {Part} */ part) => part.type === "text").map((/** @type {Part} */ part) => part.text).join("\n") : body.content;
    messages.set(user, { id: user, parent: body.parent ?? null, role: "user", content, parts, status: "done", created_at: now });
  }
  const message = messages.get(assistant) ?? { id: assistant, parent, role: "assistant", content: "", created_at: now };
  Object.assign(message, { status: "streaming", error: null, model: message.model ?? body.model ?? chat.model });
  messages.set(assistant, message);
  if (isShown) {
    store.set({ chat: { ...store.now.chat, head: assistant } });
    store.touch("messages");
  }
  return message;
}

/** Follow an answer to its end. @param {Answer} answer @param {AsyncIterable<any>} [stream] */
async function run(answer, stream) {
  try {
    const end = await follow(answer, stream);
    if (end?.title && answer.chat === store.now.chat.id) store.set({ chat: { ...store.now.chat, title: end.title } });
  } catch (error) {
    answer.message.status = "failed";
    answer.message.error = { code: "", message: /** @type {Error} */ (error).message };
  }
  store.touch("messages");
  announce(answer.chat);
  loadChats();
}

/** Stop an answer; its text stays. @param {Answer} answer */
export function stop(answer) {
  return post(`/api/chats/${answer.chat}/messages/${answer.message.id}/stop`).catch(showError);
}

/** Delete a message and all below it. @param {Message} message */
export async function deleteMessage(message) {
  const { chat, messages } = store.now;
  try {
    await remove(`/api/chats/${chat.id}/messages/${message.id}`);
  } catch (error) {
    return showError(error);
  }
  const isShown = pathTo(messages, chat.head).includes(message);
  for (const id of subtree(messages, message.id)) messages.delete(id);
  if (isShown) {
    const siblings = [...messages.values()].filter((each) => each.parent === message.parent);
    const head = siblings.length ? leafOf(messages, siblings[siblings.length - 1].id) : message.parent;
    store.set({ chat: { ...chat, head } });
  }
  store.touch("messages");
  announce(/** @type {string} */ (chat.id));
}

/** Show the branch that a message is on. @param {string} id */
export function showBranch(id) {
  return changeChat({ head: leafOf(store.now.messages, id) });
}

// ---- other tabs and devices -------------------------------------------------------------------------------------------

const channel = new BroadcastChannel("ollamapy");

/** Tell this browser's other tabs that a chat changed. @param {string} id */
function announce(id) {
  channel.postMessage(id);
}

channel.addEventListener("message", refresh);
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, POLL);

/** Take over what other tabs, the terminal or programs changed. */
async function refresh() {
  if (document.hidden) return;
  const { id, updated_at: before, temporary } = store.now.chat;
  await loadChats();
  const found = store.now.chats.find((each) => each.id === id);
  if (!id || temporary || found?.updated_at === before || [...store.now.live.values()].some((each) => each.chat === id)) return;
  const { messages, ...chat } = await get(`/api/chats/${id}`).catch(() => ({})); // also one that the list does not show
  if (messages && store.now.chat.id === id && chat.updated_at !== store.now.chat.updated_at) show(chat, messages);
}
