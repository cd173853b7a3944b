// Notices that the daemon was updated: the ETag of the page is the digest of all its files. An old page reloads itself when
// nothing is lost by it: drafts are kept, and answers go on in the daemon.

import { open } from "./api.js";
import { store } from "./state.js";

const EVERY = 60_000; // ms

/** @type {string | null} */
let mine = null;

async function current() {
  const response = await open("HEAD", "/", { headers: { Accept: "text/html" } });
  return response.headers.get("ETag");
}

async function check() {
  if (document.hidden) return;
  try {
    const etag = await current();
    mine ??= etag;
    const isBusy = store.now.queue.length > 0 || document.querySelector("dialog[open], :popover-open, .editing");
    if (etag && etag !== mine && !isBusy) location.reload();
  } catch {
    // the daemon is away; chats.js says so
  }
}

/** Compare the page with the daemon's now and then, and whenever the window is shown again. */
export function watchForUpdates() {
  check();
  setInterval(check, EVERY);
  document.addEventListener("visibilitychange", check);
}
