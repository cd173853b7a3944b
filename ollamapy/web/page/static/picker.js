/** @param {HTMLElement} container */
export function setup(container) {}
