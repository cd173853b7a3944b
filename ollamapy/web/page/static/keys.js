// Commands: what a user can do, in one list, from which come the shortcuts, the help sheet and the palette.

import { hasAction, openDialog, runLastAction } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { prefs } from "./state.js";
import { t } from "./texts.js";

/**
 * @typedef {object} Command
 * @property {string} id
 * @property {string} title as the palette and the help sheet show it
 * @property {string} [keys] "mod+k", "shift+escape"; mod is Ctrl, on a Mac Cmd
 * @property {() => void} run
 * @property {() => boolean} [when] absent: always
 * @property {boolean} [hidden] not in the palette
 */

/**
 * @typedef {object} Entry of the palette
 * @property {string} title
 * @property {string} [detail]
 * @property {string} [keys]
 * @property {() => void} run
 */

/** @type {Map<string, Command>} */
const commands = new Map();
/** @type {((query: string) => Entry[] | Promise<Entry[]>)[]} */
const sources = [];

const IS_MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const MOST = 50; // entries in the palette

/** Add a command, or replace the one with its id. @param {Command} given */
export function command(given) {
  commands.set(given.id, given);
}

/** Add a source of palette entries; it may answer later. @param {(query: string) => Entry[] | Promise<Entry[]>} source */
export function paletteSource(source) {
  sources.push(source);
}

/** Keys as they are written on the keyboard. @param {string} keys */
export function keyNames(keys) {
  /** @type {Record<string, string>} */
  const names = { mod: IS_MAC ? "⌘" : "Ctrl", shift: IS_MAC ? "⇧" : "Shift", alt: IS_MAC ? "⌥" : "Alt", escape: "Esc", backspace: IS_MAC ? "⌫" : "Backspace", arrowup: "↑", arrowdown: "↓", enter: "Enter" };
  return keys.split("+").map((key) => names[key] ?? key.toUpperCase());
}

/** @param {string} keys */
export function keyCaps(keys) {
  return h("span", { class: "keys" }, keyNames(keys).map((name) => h("kbd", null, name)));
}

/** The keys of an event in the form of Command.keys. Shift is no part of a sign, which some keyboards have only with it.
 * @param {KeyboardEvent} event */
export function keysOf(event) {
  const mod = IS_MAC ? event.metaKey : event.ctrlKey;
  const isSign = event.key.length === 1 && !/[\p{L}\p{N} ]/u.test(event.key);
  return [mod && "mod", event.altKey && "alt", event.shiftKey && !isSign && "shift", event.key.toLowerCase()].filter(Boolean).join("+");
}

/** Listen for the shortcuts. */
export function setup() {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.defaultPrevented) return;
    const keys = keysOf(event);
    const found = [...commands.values()].find((each) => each.keys === keys && (each.when?.() ?? true));
    if (!found) return;
    const isModal = document.querySelector("dialog[open]");
    if (isModal || (keys === "escape" && document.querySelector(":popover-open"))) return; // Esc closes these
    event.preventDefault();
    found.run();
  });
  command({ id: "palette", title: t("palette"), keys: "mod+k", run: openPalette, hidden: true });
  command({ id: "help", title: t("help"), keys: "mod+/", run: openHelp });
  command({ id: "undo", title: t("undo"), keys: "mod+z", when: () => hasAction() && !isTyping(), run: runLastAction });
}

/** Is there text in the field that has the focus? Then Ctrl+Z is for it. */
function isTyping() {
  const field = document.activeElement;
  return (field instanceof HTMLTextAreaElement || field instanceof HTMLInputElement) && field.value !== "";
}

/** Show all shortcuts. */
export function openHelp() {
  const rows = [...commands.values()].filter((each) => each.keys).map((each) =>
    h("li", null, h("span", null, each.title), keyCaps(each.keys ?? "")));
  const [send, line] = prefs.now.enterSends ? ["enter", "shift+enter"] : ["mod+enter", "enter"];
  const writing = [[send, t("keySend")], [line, t("keyLine")], ["arrowup", t("keyEditLast")]].map(([keys, title]) =>
    h("li", null, h("span", null, title), keyCaps(keys)));
  openDialog({ title: t("help"), class: "help", content: h("div", { tabindex: 0 }, h("ul", { class: "shortcuts" }, rows, writing)) });
}

/** Open the palette: a field, and the commands, chats and models that match it. */
export function openPalette() {
  const input = h("input", {
    type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list", "aria-autocomplete": "list",
    "aria-label": t("paletteField"), placeholder: t("paletteField"), autocomplete: "off", spellcheck: "false", dir: "auto",
  });
  const list = h("ul", { id: "palette-list", role: "listbox", "aria-label": t("palette") });
  /** @type {Entry | undefined} runs once the dialog has given the focus back, so that it keeps the focus it takes */
  let chosen;
  const dialog = openDialog({ title: t("palette"), class: "palette", content: [input, list], onclose: () => chosen?.run() });
  /** @type {Entry[]} */
  let entries = [];
  let at = 0;
  let asked = 0;

  const choose = (/** @type {number} */ index) => {
    chosen = entries[index];
    if (chosen) dialog.close();
  };
  const draw = () => {
    at = Math.max(0, Math.min(at, entries.length - 1));
    fill(list, entries.length ? entries.map((entry, index) =>
      h("li", { id: `palette-${index}`, role: "option", "aria-selected": String(index === at), on: { click: () => choose(index) } },
        h("span", { class: "title", dir: "auto" }, entry.title), entry.detail ? h("span", { class: "detail", dir: "auto" }, entry.detail) : null, entry.keys ? keyCaps(entry.keys) : null))
      : h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "empty" }, t("nothingFound")));
    if (entries.length) input.setAttribute("aria-activedescendant", `palette-${at}`);
    else input.removeAttribute("aria-activedescendant");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const search = async () => {
    const query = input.value.trim();
    const mine = ++asked;
    at = 0;
    entries = matching(query);
    draw();
    for (const source of sources) {
      const more = await Promise.resolve(source(query)).catch(() => []); // a source that fails adds nothing
      if (mine !== asked) return;
      entries = [...entries, ...more].slice(0, MOST);
      draw();
    }
  };
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) at = (at + step + entries.length) % Math.max(entries.length, 1);
    else if (event.key === "Enter") choose(at);
    else return;
    event.preventDefault();
    if (step) draw();
  });
  search();
  input.focus();
}

/** The commands that match a query, each word of it somewhere in the title. @param {string} query @returns {Entry[]} */
function matching(query) {
  const words = query.toLowerCase().split(/\s+/);
  return [...commands.values()]
    .filter((each) => !each.hidden && (each.when?.() ?? true))
    .filter((each) => words.every((word) => each.title.toLowerCase().includes(word)))
    .map(({ title, keys, run }) => ({ title, keys, run }));
}
