// Side by side: one prompt to two models, or to one with two settings. Both sides are temporary chats of the daemon; one of them can
// be kept as a chat.

import { events, get, open, patch, post, remove } from "./api.js";
import { copyText, showBlocks } from "./blocks.js";
import { loadChats, openChat } from "./chats.js";
import { openDialog, showError } from "./dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { figures } from "./figures.js";
import { command } from "./keys.js";
import { canChat, shortName } from "./library.js";
import { drawStage } from "./message.js";
import { drawButton, openPicker } from "./picker.js";
import { openSettings } from "./settings.js";
import { prefs, store } from "./state.js";
import { Answer, follow } from "./streams.js";
import { t, time } from "./texts.js";
import { GrowingText, plain } from "./plain.js";

export function setup() {
  command({ id: "compare", title: t("compare"), run: () => openCompare() });
}

/** Open two empty sides: the model of this chat, and another one if there is one. @param {{models?: string[], prompt?: string}} [given] */
export function openCompare({ models, prompt = "" } = {}) {
  const { chat } = store.now;
  const other = (store.now.models ?? []).find((model) => canChat(model) && shortName(model.name) !== shortName(chat.model));
  const [first, second] = models ?? [chat.model, other?.name ?? chat.model];
  const sides = [new Side(t("sideLeft"), first, chat), new Side(t("sideRight"), second, chat)];
  const input = h("textarea", { rows: 1, "aria-label": t("message"), placeholder: t("compareField"), dir: "auto", value: prompt });
  const button = iconButton("send", t("sendBoth"), act, { class: "send" });
  const draw = () => {
    const isWriting = sides.some((side) => side.answer);
    fill(button, icon(isWriting ? "stop" : "send"));
    button.className = `icon-button ${isWriting ? "stop" : "send"}`;
    button.title = t(isWriting ? "stopBoth" : "sendBoth");
    button.setAttribute("aria-label", button.title);
  };

  function act() {
    if (sides.some((side) => side.answer)) return sides.forEach((side) => side.stop());
    const text = input.value.trim();
    if (!text) return;
    input.value = "";
    for (const side of sides) side.send(text, draw);
    draw();
  }
  input.addEventListener("keydown", (event) => {
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing && (prefs.now.enterSends || event.ctrlKey || event.metaKey);
    if (!sends) return;
    event.preventDefault();
    if (!sides.some((side) => side.answer)) act();
  });
  const dialog = openDialog({
    title: t("compare"), class: "compare",
    content: [h("div", { class: "sides" }, sides.map((side) => side.element)), h("div", { class: "box" }, input, button)],
    onclose: () => sides.forEach((side) => side.close()),
  });
  for (const side of sides) side.onkeep = () => dialog.close();
  input.focus();
  return dialog;
}

/** One side: a temporary chat with its model and settings. */
class Side {
  /** @param {string} label @param {string} model @param {import("./settings.js").Settings} settings */
  constructor(label, model, { system, options, format, think, keep_alive }) {
    this.label = label;
    this.model = model;
    this.settings = { system, options, format, think, keep_alive };
    /** @type {string | null} */
    this.chat = null;
    this.isChanged = false; // since the chat was made
    /** @type {Answer | null} the one that is being written */
    this.answer = null;
    this.onkeep = () => {};
    this.list = h("div", { class: "side-messages", tabindex: 0, role: "log", "aria-label": t("answersOf", { side: label }) });
    this.picker = h("button", { type: "button", class: "picker-button", "aria-haspopup": "dialog", "aria-expanded": "false", on: { click: () => this.pick() } });
    this.keep = h("button", { type: "button", class: "quiet", disabled: true, on: { click: () => this.keepChat() } }, t("keepSide"));
    this.element = h("section", { class: "side", "aria-label": label },
      h("header", null, this.picker, iconButton("settings", t("settingsOf", { side: label }), () => this.openSettings()), this.keep), this.list);
    const drawPicker = () => drawButton(this.picker, this.model);
    this.end = store.watch(["models", "running", "memory"], drawPicker);
    drawPicker();
  }

  pick() {
    openPicker(this.picker, {
      current: this.model,
      choose: (model) => {
        this.model = model;
        this.isChanged = true;
        drawButton(this.picker, model);
      },
    });
  }

  openSettings() {
    openSettings({
      model: this.model, values: this.settings,
      save: (values) => {
        this.settings = values;
        this.isChanged = true;
      },
    });
  }

  /** @param {string} text @param {() => void} onchange is told when the answer begins and ends */
  async send(text, onchange) {
    const view = new AnswerView(text);
    this.list.append(view.element);
    view.element.scrollIntoView({ block: "end" });
    try {
      const chat = await this.created();
      const stream = events(await open("POST", `/api/chats/${chat}/messages?html=true`, { body: { content: text } }));
      const first = (await stream.next()).value;
      if (first?.name !== "message") throw new Error(first?.data?.message ?? t("brokenOff"));
      /** @type {Message} */
      const message = { id: first.data.assistant, parent: first.data.user, role: "assistant", content: "", status: "streaming", model: this.model, created_at: "" };
      this.answer = new Answer(chat, message);
      this.answer.last = first.id;
      this.answer.watchers.add(() => {
        const isAtEnd = this.isAtEnd();
        view.draw();
        if (isAtEnd) this.list.scrollTop = this.list.scrollHeight;
      });
      view.answer = this.answer;
      onchange();
      await follow(this.answer, stream);
      this.keep.disabled = false;
    } catch (error) {
      view.fail(/** @type {Error} */ (error).message);
    } finally {
      this.answer = null;
      const isAtEnd = this.isAtEnd();
      view.end();
      if (isAtEnd) this.list.scrollTop = this.list.scrollHeight;
      onchange();
    }
  }

  isAtEnd() {
    return this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 60;
  }

  /** The id of the daemon's chat, which has this side's model and settings. @returns {Promise<string>} */
  async created() {
    const fields = { model: this.model, ...this.settings };
    if (!this.chat) this.chat = (await post("/api/chats", { ...fields, temporary: true })).id;
    else if (this.isChanged) await patch(`/api/chats/${this.chat}`, fields);
    this.isChanged = false;
    return /** @type {string} */ (this.chat);
  }

  stop() {
    if (this.answer) post(`/api/chats/${this.answer.chat}/messages/${this.answer.message.id}/stop`).catch(showError);
  }

  /** Make a copy of this side's chat that is kept, and open it. */
  async keepChat() {
    try {
      const { chats } = await post("/api/chats/import", await get(`/api/chats/${this.chat}/export?format=json`));
      this.onkeep();
      await openChat(chats[0]);
      loadChats();
    } catch (error) {
      showError(error);
    }
  }

  close() {
    this.stop();
    this.end();
    if (this.chat) remove(`/api/chats/${this.chat}`).catch(() => {}); // the daemon forgets it anyway when it ends
  }
}

/** A question and its answer in a column. */
class AnswerView {
  /** @param {string} question */
  constructor(question) {
    this.state = h("div", { class: "state", role: "status" });
    this.thoughts = new GrowingText();
    this.thinking = h("details", { class: "thinking", hidden: true, open: prefs.now.showThinking }, h("summary", null, icon("think"), h("span")), h("div", { tabindex: 0 }, this.thoughts.element));
    this.text = h("div", { class: "text" });
    this.blocks = h("div", { class: "blocks" });
    this.foot = h("div", { class: "foot-row" });
    this.element = h("div", { class: "pair" },
      h("div", { class: "message user" }, plain(question)),
      h("div", { class: "message assistant live" }, this.thinking, this.state, this.text, this.foot));
    /** @type {Answer | null} */
    this.answer = null;
    fill(this.state, h("span", null, t("stageWaiting")), h("progress", { max: 1, "aria-label": t("stageWaiting") }));
  }

  /** Draw the answer as far as it is written. */
  draw() {
    const { answer } = this;
    if (!answer) return;
    const { message, blocks } = answer;
    drawStage(this.state, answer);
    this.thinking.hidden = !message.thinking;
    if (message.thinking) {
      fill(/** @type {HTMLElement} */ (this.thinking.querySelector("summary span")), answer.thinkingFor !== null ? t("thoughtFor", { time: time(answer.thinkingFor) }) : t("thinkingNow"));
      this.thoughts.show(message.thinking);
    }
    if (blocks.length) {
      if (!this.blocks.isConnected) fill(this.text, this.blocks);
      showBlocks(this.blocks, blocks.filter(Boolean));
    } else if (message.content) fill(this.text, plain(message.content));
  }

  end() {
    const message = this.answer?.message;
    this.draw();
    fill(this.state);
    this.element.querySelector(".live")?.classList.remove("live");
    if (!message) return;
    if (message.error) this.fail(message.error.message);
    const copy = iconButton("copy", t("copyText"), () => copyText(message.content, copy));
    fill(this.foot, copy, figures(message));
  }

  /** @param {string} reason */
  fail(reason) {
    this.text.append(h("p", { class: "error", role: "alert", dir: "auto" }, icon("warning"), t("failed", { error: reason })));
  }
}
