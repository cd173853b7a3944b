// The one place where HTML enters the page: blocks of answers, which the daemon has made and cleaned (web/page/markdown.py). The
// Content-Security-Policy refuses HTML from anywhere else in the page's code ("daemon-html" is the only trusted type).

import { post } from "./api.js";
import { toast } from "./dialogs.js";
import { h, iconButton } from "./dom.js";
import { prefs, store } from "./state.js";
import { t } from "./texts.js";

/** @type {{createHTML(html: string): any}} browsers without trusted types take the text */
const policy = /** @type {any} */ (window).trustedTypes?.createPolicy("daemon-html", { createHTML: (/** @type {string} */ html) => html }) ?? {
  createHTML: (/** @type {string} */ html) => html,
};

// ---- stored messages -------------------------------------------------------------------------------------------------

const MOST_KEPT = 2000; // messages whose HTML is kept
const MOST_ASKED = 8; // messages in a request: the first ones are shown while the others are made

/** @typedef {{id: string, resolve: (blocks: string[] | null) => void}} Wanted */

/** @type {Map<string, string[]>} */
const kept = new Map();
/** @type {Map<string, Promise<string[] | null>>} what was asked for, and has not come yet */
const coming = new Map();
/** @type {Wanted[]} */
let wanted = [];

/** The HTML of a message of the open chat; requests of one moment are sent together. Null if it cannot be had.
 * @param {string} id @returns {Promise<string[] | null>} */
export function blocksOf(id) {
  const found = kept.get(id);
  if (found) return Promise.resolve(found);
  const asked = coming.get(id);
  if (asked) return asked;
  if (!wanted.length) setTimeout(askWanted, 10);
  wanted.push(want(id));
  return /** @type {Promise<string[] | null>} */ (coming.get(id));
}

/** Ask now for the HTML of messages that are about to be shown. @param {string} chat @param {string[]} ids */
export function prepareBlocks(chat, ids) {
  fetchBlocks(chat, ids.filter((id) => !kept.has(id) && !coming.has(id)).map(want));
}

/** @param {string} id @returns {Wanted} */
function want(id) {
  /** @type {Wanted} */
  const made = { id, resolve: () => {} };
  coming.set(id, new Promise((resolve) => { made.resolve = resolve; }));
  return made;
}

/** Keep the HTML of a message. @param {string} id @param {string[]} blocks */
export function keepBlocks(id, blocks) {
  if (kept.size >= MOST_KEPT) kept.delete(/** @type {string} */ (kept.keys().next().value));
  kept.set(id, blocks);
}

/** Forget the HTML of a message, which has changed. @param {string} id */
export function forgetBlocks(id) {
  kept.delete(id);
  coming.delete(id);
}

function askWanted() {
  const asked = wanted.reverse(); // a chat is read from its end
  wanted = [];
  fetchBlocks(store.now.chat.id ?? "", asked);
}

/** @param {string} chat @param {Wanted[]} asked */
async function fetchBlocks(chat, asked) {
  for (let at = 0; at < asked.length; at += MOST_ASKED) {
    const some = asked.slice(at, at + MOST_ASKED);
    /** @type {Record<string, string[]>} */
    const found = await post(`/api/chats/${chat}/html`, { messages: some.map(({ id }) => id) }).catch(() => ({}));
    for (const { id, resolve } of some) {
      if (coming.delete(id) && found[id]) keepBlocks(id, found[id]);
      resolve(found[id] ?? null);
    }
  }
}

// ---- drawing ---------------------------------------------------------------------------------------------------------

const MOST_DRAWN = 20_000; // characters of HTML after which the rest waits for the next frame

/** @type {WeakMap<Element, Block[]>} what each container shows */
const shown = new WeakMap();
/** @type {WeakMap<Element, Block[]>} what each container is to show, where that is more */
const unfinished = new WeakMap();

/**
 * Show blocks in a container; only those that differ from what it shows are touched, and of these only what differs, so that a
 * selection in the text stays. Many blocks at once are drawn over several frames.
 * @param {HTMLElement} container
 * @param {Block[]} blocks
 */
export function showBlocks(container, blocks) {
  const isWaiting = unfinished.has(container);
  const rest = drawSome(container, blocks);
  if (!rest) unfinished.delete(container);
  else unfinished.set(container, [...blocks]);
  if (rest && !isWaiting) requestAnimationFrame(() => drawRest(container));
}

/** @param {HTMLElement} container */
function drawRest(container) {
  const blocks = unfinished.get(container);
  unfinished.delete(container);
  if (blocks) showBlocks(container, blocks);
}

/** Draw what differs, until it is enough for a frame. True if something is left. @param {HTMLElement} container @param {Block[]} blocks */
function drawSome(container, blocks) {
  const before = shown.get(container) ?? [];
  let index = 0;
  for (let size = 0; index < blocks.length && size < MOST_DRAWN; index++) {
    const { html } = blocks[index];
    if (before[index]?.html === html) continue;
    size += html.length;
    const made = parse(html);
    const old = container.children[index];
    if (old) morph(old, made);
    else container.append(made);
    decorate(/** @type {HTMLElement} */ (old ?? made));
  }
  while (container.children.length > blocks.length) container.lastElementChild?.remove();
  shown.set(container, [...blocks.slice(0, index), ...before.slice(index, blocks.length)]);
  return index < blocks.length;
}

/** @param {string} html */
function parse(html) {
  const block = h("div", { class: "block", dir: "auto" });
  block.innerHTML = policy.createHTML(html);
  for (const pre of block.querySelectorAll("pre")) frame(pre);
  return block;
}

/** Make `old` like `made`, keeping the nodes that are equal. @param {Element} old @param {Element} made */
function morph(old, made) {
  const fresh = [...made.childNodes];
  let at = 0;
  while (at < fresh.length && isSame(old.childNodes[at], fresh[at])) at++;
  const [mine, other] = [old.childNodes[at], fresh[at]];
  if (mine instanceof Element && other instanceof Element && mine.tagName === other.tagName && (mine.tagName === "FIGURE" || sameAttributes(mine, other))) {
    morph(mine, other);
    at++;
  } else if (mine instanceof Text && other instanceof Text && other.data.startsWith(mine.data)) {
    mine.appendData(other.data.slice(mine.data.length));
    at++;
  }
  while (old.childNodes.length > at) old.lastChild?.remove();
  old.append(...fresh.slice(at));
}

/** The head of a code block has buttons by now, which the user may have pressed. @param {Node | undefined} mine @param {Node} other */
function isSame(mine, other) {
  if (mine instanceof Element && mine.tagName === "FIGCAPTION" && other instanceof Element && mine.tagName === other.tagName) return mine.textContent === other.textContent;
  return mine?.isEqualNode(other) ?? false;
}

/** @param {Element} a @param {Element} b */
function sameAttributes(a, b) {
  return a.attributes.length === b.attributes.length && [...a.attributes].every((each) => b.getAttribute(each.name) === each.value);
}

/** Put a code block into a frame with its language and buttons. @param {HTMLPreElement} pre */
function frame(pre) {
  const language = pre.dataset.language ?? "";
  const figure = h("figure", { class: ["code", prefs.now.wrapCode && "wrapped"] },
    h("figcaption", null, h("span", null, language), h("span", { class: "code-buttons" })));
  pre.replaceWith(figure);
  pre.tabIndex = 0; // it scrolls
  pre.setAttribute("role", "group"); // no landmark: an answer may have many in the same language
  pre.setAttribute("aria-label", t("codeIn", { language: language || t("code") }));
  figure.append(pre);
}

/** Add to a block what listens: the buttons of code. @param {HTMLElement} block */
function decorate(block) {
  for (const buttons of block.querySelectorAll(".code-buttons:empty")) {
    const figure = /** @type {HTMLElement} */ (buttons.closest("figure"));
    const wrap = iconButton("wrap", t("wrapCode"), () => wrap.setAttribute("aria-pressed", String(figure.classList.toggle("wrapped"))), { "aria-pressed": String(prefs.now.wrapCode) });
    const copy = iconButton("copy", t("copyCode"), () => copyText(figure.querySelector("pre")?.textContent ?? "", copy));
    buttons.append(wrap, copy);
  }
}

/** Copy a text, and say so at the button. @param {string} text @param {HTMLElement} [button] */
export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (!copyBySelection(text)) return toast(t("copyFailed"), { kind: "error" });
  }
  if (!button) return toast(t("copied"), { seconds: 2 });
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1500);
}

/** The older way, for pages that are not served from this machine or by https. @param {string} text */
function copyBySelection(text) {
  const area = h("textarea", { value: text, class: "off-screen", "aria-hidden": "true" });
  const back = /** @type {HTMLElement | null} */ (document.activeElement);
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  back?.focus();
  return isCopied;
}
