// Dialogs, questions, menus and toasts. A dialog is a <dialog>: modal, closed by Esc, and the focus goes back to where it was.

import { byId, fill, h, icon, iconButton } from "./dom.js";
import { t } from "./texts.js";

/** @typedef {import("./dom.js").Child} Child */

let count = 0;

/**
 * Open a modal dialog. It is removed from the page once it is closed.
 * @param {{title: string, content: Child, actions?: Child, class?: string, onclose?: () => void}} given
 * @returns {HTMLDialogElement} close() it; its `returnValue` is what close() was given
 */
export function openDialog({ title, content, actions, class: kind = "", onclose }) {
  const heading = `dialog-${++count}`;
  const back = /** @type {HTMLElement | null} */ (document.activeElement);
  const dialog = h("dialog", { class: ["dialog", kind], "aria-labelledby": heading },
    h("header", null, h("h2", { id: heading }, title), iconButton("close", t("close"), () => dialog.close())),
    h("div", { class: "dialog-content" }, content),
    actions ? h("footer", null, actions) : null);
  let isOutside = false; // the press began on the backdrop; a selection of text may only end there
  dialog.addEventListener("pointerdown", (event) => (isOutside = event.target === dialog));
  dialog.addEventListener("click", (event) => {
    if (isOutside && event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    showToasts(dialog);
    dialog.remove();
    if (back?.isConnected) back.focus();
    onclose?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  showToasts();
  return dialog;
}

/**
 * Ask whether something is to be done.
 * @param {string} title
 * @param {string} text
 * @param {string} action the label of the button that does it
 * @returns {Promise<boolean>}
 */
export function confirmDialog(title, text, action) {
  return new Promise((resolve) => {
    const yes = h("button", { type: "button", class: "primary danger", on: { click: () => dialog.close("yes") } }, action);
    const no = h("button", { type: "button", autofocus: true, on: { click: () => dialog.close() } }, t("cancel"));
    const dialog = openDialog({
      title, content: h("p", null, text), actions: [no, yes], class: "small", onclose: () => resolve(dialog.returnValue === "yes"),
    });
  });
}

/**
 * Ask for a line of text. Resolves to null if the user cancels.
 * @param {string} title as the menu has it that led here
 * @param {{label: string, value?: string, action?: string, maxlength?: number, suggestions?: string[]}} given
 * @returns {Promise<string | null>}
 */
export function askText(title, { label, value = "", action = t("save"), maxlength = 200, suggestions = [] }) {
  return new Promise((resolve) => {
    const list = `suggestions-${++count}`;
    const input = h("input", { value, maxlength, dir: "auto", list: suggestions.length ? list : null, autocomplete: "off" });
    const form = h("form", { method: "dialog", on: { submit: () => dialog.close("yes") } },
      h("label", { class: "field" }, label, input),
      suggestions.length ? h("datalist", { id: list }, suggestions.map((each) => h("option", { value: each }))) : null,
      h("footer", null,
        h("button", { type: "button", on: { click: () => dialog.close() } }, t("cancel")),
        h("button", { class: "primary" }, action)));
    const dialog = openDialog({
      title: title.replace(/…$/, ""), content: form, class: "small", onclose: () => resolve(dialog.returnValue === "yes" ? input.value.trim() : null),
    });
    input.select();
  });
}

/** The toasts' actions that can be chosen now, the newest last. @type {(() => void)[]} */
const actions = [];

/** Run the action of the newest toast that has one. */
export const runLastAction = () => actions.at(-1)?.();

/** Is there a toast with an action? */
export const hasAction = () => actions.length > 0;

/**
 * Show a short message for some seconds, with an action if given. It stays while it has the focus or the pointer.
 * @param {string} text
 * @param {{action?: string, run?: () => void, seconds?: number, kind?: "error" | "", onend?: () => void}} [given]
 */
export function toast(text, { action, run, seconds = 6, kind = "", onend } = {}) {
  let timer = 0;
  const close = () => {
    clearTimeout(timer);
    const hadFocus = box.contains(document.activeElement);
    box.remove();
    if (hadFocus) byId("composer-text").focus();
    if (actions.includes(act)) actions.splice(actions.indexOf(act), 1);
  };
  const end = () => {
    if (!box.isConnected) return;
    close();
    onend?.();
  };
  const act = () => {
    close();
    run?.();
  };
  const hold = () => clearTimeout(timer);
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(end, seconds * 1000);
  };
  const box = h("div", { class: ["toast", kind], role: kind === "error" ? "alert" : "status", on: { pointerenter: hold, pointerleave: wait, focusin: hold, focusout: wait } },
    kind === "error" ? icon("warning") : null,
    h("span", { dir: "auto" }, text),
    action ? h("button", { type: "button", on: { click: act } }, action) : null,
    iconButton("close", t("dismiss"), end));
  if (action) actions.push(act);
  byId("toasts").append(box);
  wait();
  return end;
}

/** Show the toasts in the topmost dialog, which is over everything else and lets nothing else be used; `closing` is one no more.
 * @param {HTMLDialogElement} [closing] */
function showToasts(closing) {
  const dialogs = [...document.querySelectorAll("dialog[open]")].filter((each) => each !== closing);
  (dialogs.at(-1) ?? document.body).append(byId("toasts"));
}

/** Show an error that ended what the user asked for; aborted requests are none. @param {any} error */
export function showError(error) {
  if (error?.name === "AbortError") return;
  toast(error?.message ?? String(error), { kind: "error", seconds: 10 });
}

/**
 * @typedef {object} MenuItem
 * @property {string} title
 * @property {string} [icon]
 * @property {() => void} [run]
 * @property {boolean} [danger]
 * @property {boolean} [checked] shown as a choice of several
 */

/**
 * Open a menu at a button: arrow keys move, Esc and another press of the button close.
 * @param {HTMLButtonElement} anchor
 * @param {(MenuItem | false | null)[]} items
 */
export function openMenu(anchor, items) {
  if (hasPopover(anchor)) return;
  const shown = /** @type {MenuItem[]} */ (items.filter(Boolean));
  const menu = h("div", { class: "menu", role: "menu", popover: "auto", "aria-label": anchor.getAttribute("aria-label") ?? "" });
  fill(menu, shown.map((item) =>
    h("button", {
      type: "button", role: item.checked === undefined ? "menuitem" : "menuitemradio", class: item.danger && "danger",
      "aria-checked": item.checked === undefined ? null : String(item.checked),
      on: { click: () => { menu.hidePopover(); item.run?.(); } },
    }, item.icon ? icon(item.icon) : null, h("span", { dir: "auto" }, item.title), item.checked ? icon("check") : null)));
  menu.addEventListener("keydown", (event) => moveInMenu(menu, event));
  menu.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
    const hadFocus = menu.contains(document.activeElement) || document.activeElement === document.body;
    menu.remove();
    anchor.setAttribute("aria-expanded", "false");
    if (hadFocus && anchor.isConnected) anchor.focus();
  });
  (anchor.closest("dialog, aside, main") ?? document.body).append(menu); // what is in no landmark, screen readers may miss
  anchor.setAttribute("aria-haspopup", "menu");
  popUp(menu, anchor);
  /** @type {HTMLElement | null} */ (menu.firstElementChild)?.focus();
}

/** @param {HTMLElement} menu @param {KeyboardEvent} event */
function moveInMenu(menu, event) {
  const all = /** @type {HTMLElement[]} */ ([...menu.children]);
  const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (event.key === "Tab") menu.hidePopover();
  if (to === undefined) return;
  event.preventDefault();
  all.at(to === all.length ? 0 : to)?.focus();
}

/** Is the popover of a button open? Then the browser closes it by the press that asks this. @param {HTMLButtonElement} anchor */
export const hasPopover = (anchor) => Boolean(anchor.popoverTargetElement?.matches(":popover-open"));

/** Show a popover at its button, which closes it when it is pressed again. @param {HTMLElement} popover @param {HTMLButtonElement} anchor */
export function popUp(popover, anchor) {
  anchor.setAttribute("aria-expanded", "true");
  popover.showPopover();
  const move = () => (popover.isConnected ? place(popover, anchor) : removeEventListener("resize", move));
  addEventListener("resize", move); // a phone's keyboard comes, say
  move();
  setTimeout(() => { // once the press that opens it is over
    if (popover.isConnected) Object.assign(anchor, { popoverTargetElement: popover, popoverTargetAction: "hide" });
  });
}

/** Put a popover below its anchor, or above where there is no room; always all of it on the screen. @param {HTMLElement} popover @param {HTMLElement} anchor */
function place(popover, anchor) {
  const at = anchor.getBoundingClientRect();
  const { width, height } = popover.getBoundingClientRect();
  const below = at.bottom + height + 12 <= innerHeight || at.top < height + 12;
  const left = Math.max(8, Math.min(at.left + width > innerWidth - 8 ? at.right - width : at.left, innerWidth - width - 8));
  popover.style.left = `${left}px`;
  const top = below ? at.bottom + 4 : at.top - height - 4;
  popover.style.top = `${Math.max(8, Math.min(top, innerHeight - height - 8))}px`;
}
