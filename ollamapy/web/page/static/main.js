// The start of the page, and how its modules fit together.
//
//   dom.js       h(): elements; icons, menus        text only: HTML enters in blocks.js alone (the CSP enforces it)
//   dialogs.js   <dialog>s, questions, toasts
//   api.js       requests, errors, event streams    the only place that calls fetch
//   state.js     `store`: all that several modules know, observable; `prefs`: what this browser remembers
//   texts.js     t("key", {name: value}): every English text
//   keys.js      command({...}): shortcuts, help sheet and palette, from one list
//   chats.js     what can be done with conversations: open, create, change, send, stop ... (requests, then the store)
//   streams.js   the answers that are being written
//   queue.js     the messages that wait for them
//   and a module for each part that is seen: sidebar, thread, message, composer; picker, models, settings, compare
//
// Conventions, for a module that is seen:
//   - It exports setup(container), called once from here. It builds its elements with h(), puts them into the container, and
//     watches the store: store.watch(["chat", "models"], draw). It never reads another module's elements.
//   - It changes shared things through chats.js (changeChat({model: "..."}) also works on a chat that is not created yet) or
//     store.set({...}); the store then tells all watchers, once, in a microtask.
//   - What a user can do is a command: command({id: "model.pick", title: t("pickModel"), keys: "mod+m", run}); it is then
//     in the palette, in the help sheet, and under its shortcut ("mod" is Ctrl, on a Mac Cmd). More palette entries, such as
//     one for each model: paletteSource((query) => [{title, detail, run}]).
//   - A dialog is openDialog({title, content, class}) of dialogs.js; it closes by Esc and gives the focus back.
//   - Types are JSDoc; the shapes of the API are in ../types.d.ts (Chat, Message, Usage, ...), which tsc reads and no browser.
//   - Every text is in texts.js; every colour is a variable of style.css.

import { loadChats, openFromAddress, sendTo } from "./chats.js";
import { setup as setupCompare } from "./compare.js";
import { setup as setupComposer } from "./composer.js";
import { byId } from "./dom.js";
import { setup as setupKeys } from "./keys.js";
import { setup as setupModels } from "./models.js";
import { setup as setupQueue } from "./queue.js";
import { setup as setupBar } from "./bar.js";
import { setup as setupSettings } from "./settings.js";
import { setup as setupSidebar } from "./sidebar.js";
import { setup as setupThread } from "./thread.js";
import { watchForUpdates } from "./update.js";

setupKeys();
setupQueue(sendTo);
setupSidebar(byId("sidebar"));
setupBar(byId("bar"));
setupThread(byId("thread"));
setupComposer(byId("composer"));
setupModels();
setupSettings();
setupCompare();
watchForUpdates();
await Promise.all([loadChats(), openFromAddress()]);
