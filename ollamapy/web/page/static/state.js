// What several modules know: one observable store, and the preferences that this browser keeps.

/**
 * @typedef {object} State
 * @property {Chat[]} chats the list of the sidebar, in its order
 * @property {string | null} next the cursor of the list's next page
 * @property {string[]} folders
 * @property {string} query what the list is searched for
 * @property {string | null} folder only chats of this folder; null: all
 * @property {boolean} archived the list shows the archive
 * @property {Chat} chat the one that is open; its id is null until its first message is sent
 * @property {Map<string, Message>} messages of the open chat, by id
 * @property {Map<string, import("./streams.js").Answer>} live the answers that are being written, of all chats, by the message's id
 * @property {Queued[]} queue messages that are sent once the open chats' answers are written
 * @property {ListedModel[] | null} models installed ones, null until they are known
 * @property {RunningModel[]} running
 * @property {Memory | null} memory of the machine
 * @property {Job[] | null} jobs running and ended ones; null: this user may not manage models
 * @property {boolean} loading the open chat is being fetched
 * @property {string | null} target the message that is to be scrolled to, once it is shown
 * @property {boolean} offline the daemon cannot be reached
 */

/** @template {object} T */
export class Store {
  /** @type {{keys: (keyof T)[], tell: () => void}[]} */
  #watchers = [];
  /** @type {Set<keyof T>} */
  #changed = new Set();
  #value;

  /** @param {T} value */
  constructor(value) {
    this.#value = value;
  }

  /** The current values. Change them with set() only, or, inside a Map or a list, with touch() after it. */
  get now() {
    return this.#value;
  }

  /** @param {Partial<T>} patch */
  set(patch) {
    const different = /** @type {(keyof T)[]} */ (Object.keys(patch)).filter((key) => patch[key] !== this.#value[key]);
    Object.assign(this.#value, patch);
    this.touch(...different);
  }

  /** Tell the watchers of these keys, once, in a microtask. @param {...keyof T} keys */
  touch(...keys) {
    if (!keys.length) return;
    if (!this.#changed.size) queueMicrotask(() => this.#tell());
    for (const key of keys) this.#changed.add(key);
  }

  /**
   * Call `tell` after any of the keys changed. Returns a function that ends it.
   * @param {(keyof T)[]} keys
   * @param {() => void} tell
   */
  watch(keys, tell) {
    const watcher = { keys, tell };
    this.#watchers.push(watcher);
    return () => {
      this.#watchers = this.#watchers.filter((each) => each !== watcher);
    };
  }

  #tell() {
    const changed = this.#changed;
    this.#changed = new Set();
    for (const { keys, tell } of [...this.#watchers]) {
      if (!keys.some((key) => changed.has(key))) continue;
      try {
        tell();
      } catch (error) {
        reportError(error); // one part of the page that fails does not stop the others
      }
    }
  }
}

/** A chat that is not created yet. @param {Partial<Chat>} [given] @returns {Chat} */
export function draftChat(given = {}) {
  return {
    id: null, title: "", model: "", system: "", options: {}, format: null, think: null, keep_alive: null, folder: "",
    pinned: false, archived: false, temporary: false, created_at: "", updated_at: "", head: null, n_messages: 0, ...given,
  };
}

/** @type {Store<State>} */
export const store = new Store(/** @type {State} */ ({
  chats: [], next: null, folders: [], query: "", folder: null, archived: false, chat: draftChat(), messages: new Map(),
  live: new Map(), queue: [], models: null, running: [], memory: null, jobs: [], loading: false, target: null, offline: false,
}));

/**
 * @typedef {object} Prefs
 * @property {"auto" | "light" | "dark"} theme
 * @property {boolean} sidebar shown, where there is room for it
 * @property {boolean} prefill read the conversation while the user types
 * @property {boolean} enterSends else Ctrl+Enter does
 * @property {boolean} wrapCode
 * @property {boolean} showThinking open while it is written
 * @property {string} model of a new chat: the last one that was chosen
 * @property {string} notice of the daemon, which was shown last
 */

const PREFS = "ollamapy.prefs";

/** @returns {Prefs} */
function readPrefs() {
  /** @type {Prefs} */
  const usual = { theme: "auto", sidebar: true, prefill: true, enterSends: true, wrapCode: false, showThinking: false, model: "", notice: "" };
  try {
    return { ...usual, ...JSON.parse(localStorage.getItem(PREFS) ?? "{}") };
  } catch {
    return usual;
  }
}

/** @type {Store<Prefs>} */
export const prefs = new Store(readPrefs());

prefs.watch(["theme", "sidebar", "prefill", "enterSends", "wrapCode", "showThinking", "model", "notice"], () => {
  const { theme } = prefs.now;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(PREFS, JSON.stringify(prefs.now));
  } catch {
    // storage is off: they are kept until the page is closed
  }
});
