export function setup() {}
export function openSettings() {}
