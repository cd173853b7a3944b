// Lists that change while they are looked at: rows are kept by their key, so that the focus and the selection stay.

/**
 * @template Item
 * @typedef {{element: HTMLElement, update: (item: Item) => void}} Row
 */

/** @type {WeakMap<Element, Map<string, Row<any>>>} */
const rows = new WeakMap();

/**
 * Make the children of a list like these items, in their order.
 * @template Item
 * @param {Element} list
 * @param {Item[]} items
 * @param {(item: Item) => string} key
 * @param {(item: Item) => Row<Item>} make a new row; update() is called for it, too
 */
export function sync(list, items, key, make) {
  const before = rows.get(list) ?? new Map();
  const after = new Map();
  for (const item of items) {
    const row = before.get(key(item)) ?? make(item);
    row.update(item);
    after.set(key(item), row);
  }
  for (const [name, row] of before) if (!after.has(name)) row.element.remove();
  let at = list.firstElementChild;
  for (const { element } of after.values()) {
    if (at && element === at) at = at.nextElementSibling;
    else list.insertBefore(element, at);
  }
  rows.set(list, after);
}
