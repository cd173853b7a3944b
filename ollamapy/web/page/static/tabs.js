// Tabs: one of several panels is shown. Arrow keys move between them.

import { fill, h } from "./dom.js";

let count = 0;

/**
 * @typedef {object} Tab
 * @property {string} id
 * @property {string} title
 * @property {() => import("./dom.js").Child} make its content, made when it is shown for the first time
 */

/**
 * @param {string} label of all of them
 * @param {Tab[]} given
 * @param {string} current the id of the one that is shown
 * @returns {{element: HTMLElement, select: (id: string) => void}}
 */
export function tabs(label, given, current) {
  const prefix = `tabs-${++count}`;
  /** @type {Map<string, HTMLElement>} */
  const panels = new Map();
  const holder = h("div", { class: "panels" });
  const buttons = given.map(({ id, title }) => h("button", {
    type: "button", role: "tab", id: `${prefix}-${id}`, "aria-controls": `${prefix}-${id}-panel`, on: { click: () => select(id) },
  }, title));
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": label, on: { keydown: move } }, buttons);

  /** @param {string} id */
  function select(id) {
    given.forEach((tab, index) => {
      buttons[index].setAttribute("aria-selected", String(tab.id === id));
      buttons[index].tabIndex = tab.id === id ? 0 : -1;
      let panel = panels.get(tab.id);
      if (!panel) {
        panel = h("div", { class: "panel", role: "tabpanel", id: `${prefix}-${tab.id}-panel`, "aria-labelledby": `${prefix}-${tab.id}`, tabindex: -1 });
        panels.set(tab.id, panel);
        holder.append(panel);
      }
      if (tab.id === id && !panel.childElementCount) fill(panel, tab.make());
      panel.hidden = tab.id !== id;
    });
  }

  /** @param {KeyboardEvent} event */
  function move(event) {
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    const isRightToLeft = getComputedStyle(list).direction === "rtl";
    const step = { ArrowRight: isRightToLeft ? -1 : 1, ArrowLeft: isRightToLeft ? 1 : -1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? buttons.length - 1 : step && (at + step + buttons.length) % buttons.length;
    if (to === undefined) return;
    event.preventDefault();
    select(given[to].id);
    buttons[to].focus();
  }

  select(current);
  return { element: h("div", { class: "tabbed" }, list, holder), select };
}
