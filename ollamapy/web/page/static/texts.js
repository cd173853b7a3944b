// Every English text of the page, in one place so that other languages can be added. {name} is replaced by a value; a text with
// two forms is a list: for one, for any other number of n.

/** @type {Record<string, string | [string, string]>} */
const TEXTS = {
  // everywhere
  cancel: "Cancel",
  close: "Close",
  copied: "Copied",
  copy: "Copy",
  copyFailed: "This browser does not let the page copy",
  delete: "Delete",
  dismiss: "Dismiss",
  edit: "Edit",
  export: "Export",
  help: "Keyboard shortcuts",
  more: "More",
  nothingFound: "Nothing found",
  offline: "The daemon cannot be reached. Trying again…",
  save: "Save",
  undo: "Undo",

  // keys and palette
  palette: "Commands",
  paletteField: "Search commands, chats and models",
  keySend: "Send the message",
  keyLine: "New line",
  keyEditLast: "Edit the last message (in an empty field)",

  // sidebar
  allChats: "All chats",
  archive: "Archive",
  archived: "Archived",
  chatActions: "Actions for {title}",
  chats: "Chats",
  deleted: "Deleted “{title}”",
  earlier: "Earlier",
  exportAll: "Export all chats",
  exportJson: "Export as JSON",
  exportMarkdown: "Export as Markdown",
  folder: "Folder",
  folderNone: "No folder",
  importChats: "Import chats",
  imported: ["Imported {n} chat", "Imported {n} chats"],
  loadMore: "Show more",
  moveToFolder: "Move to folder…",
  newChat: "New chat",
  noChats: "No chats yet",
  pin: "Pin",
  pinned: "Pinned",
  rename: "Rename…",
  running: "An answer is being written",
  searchChats: "Search chats",
  sidebar: "Show or hide the list of chats",
  skipped: ["{n} was skipped:", "{n} were skipped:"],
  temporaryChat: "Temporary chat",
  temporaryHint: "This chat is not stored: it is gone when the daemon ends or you delete it.",
  title: "Title",
  today: "Today",
  unarchive: "Move out of the archive",
  unpin: "Unpin",
  untitled: "New chat",
  week: "Previous 7 days",
  yesterday: "Yesterday",

  // bar
  chatMenu: "This chat",
  chatSettings: "Settings of this chat",
  preferences: "Preferences",
  theme: "Theme",
  themeAuto: "As the system",
  themeDark: "Dark",
  themeLight: "Light",
  prefEnter: "Enter sends the message",
  prefEnterHint: "Otherwise Ctrl+Enter does, and Enter begins a new line.",
  prefPrefill: "Read the conversation while I type",
  prefPrefillHint: "The daemon prepares the conversation at low priority, so that the answer begins at once.",
  prefThinking: "Show thinking while it is written",
  prefWrap: "Wrap long lines of code",

  // thread
  answerOf: "Answer of {model}",
  branch: "Version {n} of {all}",
  branchNext: "Next version",
  branchPrevious: "Previous version",
  brokenOff: "The connection broke off before the answer began",
  continue: "Continue",
  code: "code",
  codeIn: "Code: {language}",
  copyAnswer: "Copy the last answer",
  copyCode: "Copy code",
  copyText: "Copy text",
  deleteMessage: "Delete this message and all that follow it",
  deleteMessageAsk: "The message and everything below it will be deleted from this chat.",
  editMessage: "Edit",
  failed: "The answer failed: {error}",
  greeting: "What do you want to know?",
  image: "Image",
  jumpDown: "Jump to the latest message",
  messages: "Messages",
  retry: "Answer again",
  retryWith: "Answer again with another model",
  stopped: "Stopped",
  cutByLength: "Cut off by the token limit",
  systemMessage: "System message",
  thinking: "Thinking",
  thinkingNow: "Thinking…",
  thoughtFor: "Thought for {time}",
  toolCall: "Calls {name}",
  toolResult: "Result of {name}",
  wrapCode: "Wrap lines",
  youSaid: "Your message",

  // what an answer waits for
  stageLoading: "Loading the model",
  stagePrefill: "Reading the prompt",
  stageQueued: ["Waiting in the queue, place {n}", "Waiting in the queue, place {n}"],
  stageWaiting: "Waiting",

  // figures under an answer
  figureContext: "{used} of {all} tokens of context used",
  figureCut: "{tokens} tokens of the oldest messages were left out, because the conversation is longer than the context",
  figureDropped: ["{n} message left out", "{n} messages left out"],
  figureFirst: "First token after {time}",
  figurePrompt: "{tokens} prompt tokens, {cached} reused",
  figureSpeed: "{speed} tokens/s",
  figureTokens: ["{n} token", "{n} tokens"],
  figures: "Figures",

  // composer
  attach: "Attach files",
  attachFailed: "“{name}” could not be attached: {reason}",
  attachments: "Attachments",
  dropHere: "Drop files to attach them",
  focusMessage: "Go to the message field",
  message: "Message",
  queue: "Send after this answer",
  queued: "Sent next",
  removeAttachment: "Remove {name}",
  removeQueued: "Do not send",
  send: "Send",
  stop: "Stop",
  noModel: "Choose a model first",
};

/**
 * A text with its values.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const text = TEXTS[key];
  if (text === undefined) throw new Error(`no text ${key}`);
  const form = typeof text === "string" ? text : text[values.n === 1 ? 0 : 1];
  return form.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? number(value) : value;
  });
}

/** A number with separators. @param {number} value */
export function number(value) {
  return value.toLocaleString("en");
}

/** A short time: "0.3 s", "12 s", "2 min 5 s". @param {number} ms */
export function time(ms) {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** Bytes: "3.5 MB". @param {number} value */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const at = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  const shown = value / 1000 ** at;
  return `${shown >= 100 || at === 0 ? Math.round(shown) : shown.toFixed(1)} ${units[at]}`;
}
