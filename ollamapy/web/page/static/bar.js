// The bar above the messages: the sidebar's button, the model, what concerns this chat, and preferences.

import { changeChat, deleteChat, exportChat, newChat } from "./chats.js";
import { askText, openDialog, openMenu } from "./dialogs.js";
import { byId, fill, h, iconButton } from "./dom.js";
import { command, openHelp } from "./keys.js";
import { setup as setupPicker } from "./picker.js";
import { openSettings } from "./settings.js";
import { prefs, store } from "./state.js";
import { t } from "./texts.js";

/** @param {HTMLElement} bar */
export function setup(bar) {
  const picker = h("div", { id: "picker" });
  const title = h("h1", { dir: "auto" });
  const mark = h("span", { class: "badge", title: t("temporaryHint") }, t("temporaryChat"));
  const more = iconButton("more", t("chatMenu"), () => openMenu(more, chatMenu()));
  fill(bar,
    iconButton("sidebar", t("sidebar"), toggleSidebar, { class: "sidebar-button" }),
    picker, title, mark,
    iconButton("settings", t("chatSettings"), openSettings),
    more);
  setupPicker(picker);
  const draw = () => {
    const { chat } = store.now;
    title.textContent = chat.title || t("untitled");
    title.classList.toggle("quiet", !chat.id);
    mark.hidden = !chat.temporary;
    document.title = chat.title ? `${chat.title} · ollamapy` : "ollamapy";
  };
  store.watch(["chat"], draw);
  draw();
  commands();
}

function commands() {
  const isCreated = () => store.now.chat.id !== null;
  command({ id: "sidebar", title: t("sidebar"), keys: "mod+shift+s", run: toggleSidebar });
  command({ id: "chat.rename", title: t("renameChat"), run: () => renameChat(store.now.chat), when: isCreated });
  command({ id: "chat.delete", title: t("deleteChat"), keys: "mod+shift+backspace", run: () => deleteChat(store.now.chat), when: isCreated });
  command({ id: "preferences", title: t("preferences"), keys: "mod+,", run: openPreferences });
}

/** Show or hide the list of chats: beside the messages, or on a narrow screen above them. */
export function toggleSidebar() {
  const root = document.documentElement;
  if (!matchMedia("(max-width: 800px)").matches) return prefs.set({ sidebar: !prefs.now.sidebar });
  if (root.classList.toggle("sidebar-over")) byId("sidebar").querySelector("button")?.focus();
}

/** What can be done with a chat, for menus. @param {Chat} chat */
export function chatItems(chat) {
  return [
    { title: t("rename"), icon: "edit", run: () => renameChat(chat) },
    { title: chat.pinned ? t("unpin") : t("pin"), icon: "pin", run: () => changeChat({ pinned: !chat.pinned }, chat) },
    { title: t("moveToFolder"), icon: "folder", run: () => moveChat(chat) },
    { title: chat.archived ? t("unarchive") : t("archive"), icon: "archive", run: () => changeChat({ archived: !chat.archived }, chat) },
    { title: t("exportMarkdown"), icon: "export", run: () => exportChat(chat.id, "markdown") },
    { title: t("exportJson"), icon: "export", run: () => exportChat(chat.id) },
    { title: t("delete"), icon: "delete", danger: true, run: () => deleteChat(chat) },
  ];
}

function chatMenu() {
  const { chat } = store.now;
  return [
    ...(chat.id ? chatItems(chat) : [{ title: t("temporaryChat"), icon: "ghost", run: () => newChat({ temporary: !chat.temporary }) }]),
    { title: t("preferences"), icon: "sun", run: openPreferences },
    { title: t("help"), icon: "keyboard", run: openHelp },
  ];
}

/** @param {Chat} chat */
async function renameChat(chat) {
  const title = await askText(t("rename"), { label: t("title"), value: chat.title });
  if (title) changeChat({ title }, chat);
}

/** @param {Chat} chat */
async function moveChat(chat) {
  const folder = await askText(t("moveToFolder"), { label: t("folder"), value: chat.folder, suggestions: store.now.folders });
  if (folder !== null) changeChat({ folder }, chat);
}

/** The preferences of this browser. */
export function openPreferences() {
  /** @type {["auto" | "light" | "dark", string][]} */
  const themes = [["auto", t("themeAuto")], ["light", t("themeLight")], ["dark", t("themeDark")]];
  const theme = h("fieldset", { class: "choice" }, h("legend", null, t("theme")),
    themes.map(([value, title]) => h("label", null,
      h("input", { type: "radio", name: "theme", value, checked: prefs.now.theme === value, on: { change: () => prefs.set({ theme: value }) } }), title)));
  openDialog({
    title: t("preferences"), class: "small",
    content: [
      theme,
      toggle("enterSends", t("prefEnter"), t("prefEnterHint")),
      toggle("prefill", t("prefPrefill"), t("prefPrefillHint")),
      toggle("showThinking", t("prefThinking")),
      toggle("wrapCode", t("prefWrap")),
    ],
  });
}

/** @param {"enterSends" | "prefill" | "showThinking" | "wrapCode"} key @param {string} title @param {string} [hint] */
function toggle(key, title, hint) {
  const input = h("input", { type: "checkbox", checked: prefs.now[key], on: { change: () => prefs.set({ [key]: input.checked }) } });
  return h("label", { class: "toggle" }, input, h("span", null, title, hint ? h("small", null, hint) : null));
}
