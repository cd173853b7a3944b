// The model picker: the button in the bar with the model of this chat, and the list that it opens.

import { changeChat } from "./chats.js";
import { openCompare } from "./compare.js";
import { hasPopover, popUp } from "./dialogs.js";
import { fill, h, icon } from "./dom.js";
import { capabilitiesOf, capabilityTexts, fitOf, fitText, loadOf, sizesOf, stateText, withShare } from "./facts.js";
import { command, paletteSource } from "./keys.js";
import { canChat, installed, loadModels, look, pull, shortName } from "./library.js";
import { openModels } from "./models.js";
import { store } from "./state.js";
import { t } from "./texts.js";

const MOST = 200; // models in the list; words find the others

/** @param {HTMLElement} container */
export function setup(container) {
  const button = h("button", { type: "button", class: "picker-button", "aria-haspopup": "dialog", "aria-expanded": "false", on: { click: open } });
  fill(container, button);

  function open() {
    if (store.now.models?.length === 0) return openModels("get");
    openPicker(button, { current: store.now.chat.model, choose: (model) => changeChat({ model }) });
  }

  store.watch(["chat", "models", "running", "memory"], () => drawButton(button, store.now.chat.model));
  drawButton(button, store.now.chat.model);
  command({ id: "model.pick", title: t("pickModel"), keys: "mod+.", run: open });
  paletteSource(modelEntries);
}

/** Commands that choose a model. @param {string} query */
function modelEntries(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  return chatModels().filter((model) => words.every((word) => model.name.toLowerCase().includes(word))).map((model) => ({
    title: t("useModel", { name: shortName(model.name) }), detail: sizesOf(model).join(" · "), run: () => changeChat({ model: model.name }),
  }));
}

function chatModels() {
  return (store.now.models ?? []).filter(canChat);
}

/** A button that opens a picker: the model's name, whether it is loaded, and how far its load is. @param {HTMLElement} button @param {string} name */
export function drawButton(button, name) {
  const { models, running, memory } = store.now;
  const model = installed(name);
  const fit = model ? fitOf(model, running, memory) : "unknown";
  const loaded = running.find((each) => each.name === model?.name);
  const load = loaded?.status === "starting" ? loadOf(loaded.stage, loaded.fraction) : null;
  const title = name ? shortName(name) : models?.length === 0 ? t("getModel") : t("pickModel");
  const missing = Boolean(name && models && !model);
  const state = missing ? t("notInstalled") : load ? withShare(load) : model ? fitText(fit, model.memory ?? 0, memory) : "";
  fill(button,
    h("span", { class: ["dot", missing ? "never" : fit], "aria-hidden": "true" }),
    h("span", { class: "name", dir: "auto" }, title),
    icon("chevron"),
    load ? h("progress", { max: 1, "aria-label": load.text, ...(load.share === undefined ? {} : { value: load.share }) }) : null);
  button.setAttribute("aria-label", name ? [t("modelIs", { name: title }), state].filter(Boolean).join(", ") : title);
  button.title = state || title;
}

/**
 * Open the list of models at a button.
 * @param {HTMLButtonElement} anchor
 * @param {{current: string, choose: (name: string) => void}} given
 */
export function openPicker(anchor, { current, choose }) {
  if (hasPopover(anchor)) return;
  loadModels();
  look();
  const input = h("input", {
    type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "picker-list", "aria-autocomplete": "list", "aria-label": t("searchModels"),
    placeholder: t("searchModels"), autocomplete: "off", spellcheck: "false", dir: "auto", maxlength: 200,
  });
  const list = h("ul", { id: "picker-list", role: "listbox", "aria-label": t("models") });
  const foot = h("footer", null,
    footButton("cube", t("manageModels"), () => openModels()),
    footButton("compare", t("compare"), () => openCompare()));
  const panel = h("div", { class: "picker-panel", role: "dialog", popover: "auto", "aria-label": t("pickModel") }, input, list, foot);
  let at = 0;
  /** @type {(ListedModel | string)[]} models, and a name that can be pulled */
  let shown = [];

  /** @param {ListedModel | string | undefined} item */
  const pick = (item) => {
    if (!item) return;
    panel.hidePopover();
    if (typeof item !== "string") return choose(item.name);
    pull(item);
    openModels("get");
  };
  const draw = () => {
    const query = input.value.trim();
    const words = query.toLowerCase().split(/\s+/);
    const found = chatModels().filter((model) => words.every((word) => searched(model).includes(word)));
    const missing = query || current; // what is not installed can be pulled
    const pulls = missing && store.now.models && !installed(missing) && store.now.jobs !== null ? [missing] : [];
    shown = query ? [...found.slice(0, MOST), ...pulls] : [...pulls, ...found.slice(0, MOST)];
    at = Math.max(0, Math.min(at, shown.length - 1));
    fill(list, shown.length ? shown.map((item, index) => optionOf(item, index === at, current, () => pick(item), index)) : emptyOption());
    if (shown.length) input.setAttribute("aria-activedescendant", `picker-${at}`);
    else input.removeAttribute("aria-activedescendant");
  };
  const move = (/** @type {number} */ to) => {
    at = to;
    draw();
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };

  function footButton(/** @type {string} */ name, /** @type {string} */ title, /** @type {() => void} */ run) {
    return h("button", { type: "button", on: { click: () => { panel.hidePopover(); run(); } } }, icon(name), title);
  }
  input.addEventListener("input", () => move(0));
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && shown.length) move((at + step + shown.length) % shown.length);
    else if (event.key === "Enter") pick(shown[at]);
    else return;
    event.preventDefault();
  });
  const end = store.watch(["models", "running", "memory", "jobs"], draw);
  panel.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
    const hadFocus = panel.contains(document.activeElement) || document.activeElement === document.body;
    end();
    panel.remove();
    anchor.setAttribute("aria-expanded", "false");
    if (hadFocus && anchor.isConnected && !document.querySelector("dialog[open]:not(:has(.picker-button))")) anchor.focus();
  });
  (anchor.closest("dialog") ?? document.body).append(panel);
  draw();
  at = Math.max(0, shown.findIndex((item) => typeof item !== "string" && item === installed(current)));
  popUp(panel, anchor);
  move(at);
  input.focus();
}

/** @param {ListedModel} model */
function searched(model) {
  const { name, details } = model;
  return `${name} ${details.family} ${details.parameter_size} ${details.quantization_level} ${capabilitiesOf(model).join(" ")}`.toLowerCase();
}

/** @param {ListedModel | string} item @param {boolean} isSelected @param {string} current @param {() => void} pick @param {number} index */
function optionOf(item, isSelected, current, pick, index) {
  const props = { id: `picker-${index}`, role: "option", "aria-selected": String(isSelected), on: { click: pick } };
  if (typeof item === "string") return h("li", { ...props, class: "pull" }, icon("down"), h("span", { class: "title", dir: "auto" }, t("pullName", { name: item })));
  const { running, memory } = store.now;
  const fit = fitOf(item, running, memory);
  const state = stateText(fit, item.memory ?? 0, memory);
  return h("li", { ...props, title: fitText(fit, item.memory ?? 0, memory) },
    h("span", { class: ["dot", fit], "aria-hidden": "true" }),
    h("span", { class: "title", dir: "auto" }, shortName(item.name)),
    item === installed(current) ? icon("check") : null,
    h("span", { class: "facts" }, [...sizesOf(item), fit === "fits" ? t("fits") : ""].filter(Boolean).join(" · ")),
    h("span", { class: "badges" }, capabilityTexts(capabilitiesOf(item)).map((text) => h("span", { class: "badge" }, text))),
    state ? h("span", { class: ["state-text", fit] }, state) : null);
}

function emptyOption() {
  return h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "empty" }, store.now.models === null ? t("loadingList") : t("noModels"));
}
