// The list of chats: search, folders, archive, and what can be done with each.

import { chatItems, toggleSidebar } from "./bar.js";
import { deleteAllChats, exportChat, filterChats, importChats, loadChats, newChat, openChat, searchChats } from "./chats.js";
import { confirmDialog, openMenu } from "./dialogs.js";
import { delayed, fill, h, icon, iconButton } from "./dom.js";
import { command, paletteSource } from "./keys.js";
import { prefs, store } from "./state.js";
import { t } from "./texts.js";
import { get } from "./api.js";

const DAY = 86_400_000; // ms

/** @param {HTMLElement} sidebar */
export function setup(sidebar) {
  sidebar.setAttribute("aria-label", t("chats"));
  const search = h("input", { type: "search", placeholder: t("searchChats"), "aria-label": t("searchChats"), dir: "auto", maxlength: 200 });
  const typed = delayed(() => searchChats(search.value.trim()), 150);
  search.addEventListener("input", typed);
  const list = h("nav", { "aria-label": t("chats"), class: "chat-list" });
  const filter = h("button", { type: "button", class: "filter", on: { click: () => openMenu(filter, filterItems()) } });
  const more = iconButton("more", t("more"), () => openMenu(more, moreItems()));
  fill(sidebar,
    h("div", { class: "sidebar-top" },
      h("button", { type: "button", class: "new-chat", on: { click: () => start() } }, icon("plus"), t("newChat")),
      iconButton("ghost", t("temporaryChat"), () => start(true)),
      more),
    h("div", { class: "search" }, icon("search"), search),
    filter, list);
  const draw = () => {
    drawFilter(filter);
    drawList(list);
  };
  store.watch(["chats", "chat", "next", "live", "folder", "archived", "folders", "query"], draw);
  draw();
  prefs.watch(["sidebar"], drawShown);
  drawShown();
  closeOverlays(sidebar);
  commands(search);
}

function drawShown() {
  document.documentElement.classList.toggle("sidebar-hidden", !prefs.now.sidebar);
}

/** Above the messages (on a narrow screen), the list closes by Esc and by a tap beside it. @param {HTMLElement} sidebar */
function closeOverlays(sidebar) {
  const root = document.documentElement;
  document.addEventListener("pointerdown", (event) => {
    if (root.classList.contains("sidebar-over") && !sidebar.contains(/** @type {Node} */ (event.target)) && !document.querySelector(":popover-open, dialog[open]")) root.classList.remove("sidebar-over");
  });
  sidebar.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !root.classList.contains("sidebar-over") || document.querySelector(":popover-open")) return;
    root.classList.remove("sidebar-over");
    /** @type {HTMLElement | null} */ (document.querySelector(".sidebar-button"))?.focus();
    event.stopPropagation();
  });
}

/** @param {boolean} [temporary] */
function start(temporary = false) {
  document.documentElement.classList.remove("sidebar-over");
  newChat({ temporary });
}

/** @param {HTMLInputElement} search */
function commands(search) {
  command({ id: "chat.new", title: t("newChat"), keys: "mod+shift+o", run: () => start() });
  command({ id: "chat.temporary", title: t("temporaryChat"), keys: "mod+shift+p", run: () => start(true) });
  command({ id: "chat.search", title: t("searchChats"), keys: "mod+shift+f", run: () => {
    if (!search.checkVisibility()) toggleSidebar();
    search.focus();
  } });
  command({ id: "chat.import", title: t("importChats"), run: chooseImport });
  command({ id: "chat.exportAll", title: t("exportAll"), run: () => exportChat(null) });
  command({ id: "chat.deleteAll", title: t("deleteAll"), run: askDeleteAll });
  paletteSource(async (query) => {
    const { chats } = await get(`/api/chats?${new URLSearchParams({ limit: "12", archived: "all", ...(query ? { q: query } : {}) })}`);
    return chats.map((/** @type {Chat} */ chat) => ({ title: chat.title || t("untitled"), detail: chat.folder || chat.model, run: () => openChat(chat.id ?? "", chat.message) }));
  });
}

function filterItems() {
  const { folders, folder, archived } = store.now;
  return [
    { title: t("allChats"), checked: folder === null && !archived, run: () => filterChats(null) },
    ...folders.map((name) => ({ title: name, checked: folder === name, run: () => filterChats(name) })),
    { title: t("archived"), checked: archived, run: () => filterChats(null, true) },
  ];
}

function moreItems() {
  return [
    { title: t("importChats"), icon: "import", run: chooseImport },
    { title: t("exportAll"), icon: "export", run: () => exportChat(null) },
    { title: t("deleteAll"), icon: "delete", danger: true, run: askDeleteAll },
  ];
}

async function askDeleteAll() {
  if (await confirmDialog(t("deleteAll"), t("deleteAllAsk"), t("deleteAllYes"))) await deleteAllChats();
}

function chooseImport() {
  const input = h("input", { type: "file", accept: ".json,application/json", on: { change: () => input.files?.[0] && importChats(input.files[0]) } });
  input.click();
}

/** @param {HTMLElement} button */
function drawFilter(button) {
  const { folder, archived } = store.now;
  fill(button, icon(archived ? "archive" : "folder"), h("span", { dir: "auto" }, archived ? t("archived") : (folder ?? t("allChats"))), icon("chevron"));
}

/** @param {HTMLElement} list */
function drawList(list) {
  const { chats, next, query, folder, archived } = store.now;
  const followed = new Set([...store.now.live.values()].map((answer) => answer.chat));
  const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.key;
  const groups = query ? [{ title: "", chats }] : grouped(chats, Date.now());
  fill(list,
    chats.length ? null : h("p", { class: "empty" }, t(query ? "nothingFound" : folder !== null || archived ? "noChatsHere" : "noChats")),
    groups.map((group) => [
      group.title ? h("h2", null, group.title) : null,
      h("ul", null, group.chats.map((chat) => row(chat, chat.running || followed.has(chat.id ?? "")))),
    ]),
    next ? h("button", { type: "button", class: "more", on: { click: () => loadChats({ more: true }) } }, t("loadMore")) : null);
  if (focused) /** @type {HTMLElement | null} */ (list.querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
}

/** The chats by time, in their order. Pure. @param {Chat[]} chats @param {number} now */
export function grouped(chats, now) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  /** @type {{title: string, chats: Chat[]}[]} */
  const groups = [];
  for (const chat of chats) {
    const at = Date.parse(chat.updated_at);
    const title = chat.pinned ? t("pinned") : at >= midnight ? t("today") : at >= midnight - DAY ? t("yesterday") : at >= midnight - 7 * DAY ? t("week") : t("earlier");
    if (groups.at(-1)?.title !== title) groups.push({ title, chats: [] });
    groups.at(-1)?.chats.push(chat);
  }
  return groups;
}

/** @param {Chat} chat @param {boolean} isRunning */
function row(chat, isRunning) {
  const id = chat.id ?? "";
  const title = chat.title || t("untitled");
  const isOpen = id === store.now.chat.id;
  const more = iconButton("more", t("chatActions", { title }), () => openMenu(more, chatItems(chat)), { data: { key: `more-${id}` } });
  const link = h("a", {
    href: `#${id}`, "aria-current": isOpen && "page", data: { key: id },
    on: { click: (/** @type {MouseEvent} */ event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return; // another tab or window
      event.preventDefault();
      document.documentElement.classList.remove("sidebar-over");
      openChat(id, chat.message);
    } },
  },
    h("span", { class: "title", dir: "auto" }, title),
    isRunning ? h("span", { class: "spinner", role: "img", "aria-label": t("running"), title: t("running") }) : chat.pinned ? icon("pin") : null,
    chat.snippet ? h("span", { class: "snippet", dir: "auto" }, chat.snippet.map(([text, isMatch]) => (isMatch ? h("mark", null, text) : text))) : null);
  return h("li", { class: isOpen && "open" }, link, more);
}
