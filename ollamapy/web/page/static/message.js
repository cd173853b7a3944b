// One message as it is seen: its text, thinking, tool calls, attachments, figures, branches and buttons.

import { blocksOf, copyText, forgetBlocks, keepBlocks, showBlocks } from "./blocks.js";
import { continueAnswer, deleteMessage, editAnswer, resend, retry, showBranch } from "./chats.js";
import { confirmDialog, openMenu } from "./dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { loadOf } from "./facts.js";
import { figures } from "./figures.js";
import { canChat, shortName } from "./library.js";
import { GrowingText, plain } from "./plain.js";
import { prefs, store } from "./state.js";
import { t, time } from "./texts.js";

/** A message in the thread. What costs is made when it comes near the screen: reveal(). */
export class MessageView {
  /** @param {Message} message */
  constructor(message) {
    this.message = message;
    /** @type {Message[]} */
    this.siblings = [message];
    this.isRevealed = false;
    this.isEditing = false;
    this.footKey = ""; // what the foot shows
    this.thoughts = new GrowingText();
    /** @type {import("./streams.js").Answer | null} */
    this.answer = null;
    this.text = h("div", { class: "text" });
    this.thinking = h("div", { class: "thinking-slot" });
    this.state = h("div", { class: "state", role: "status" });
    this.parts = h("div", { class: "parts" });
    this.calls = h("div", { class: "calls" });
    this.foot = h("footer");
    this.heading = h("h2", { id: `of-${message.id}` }, this.label());
    this.element = h("article", { class: ["message", message.role], data: { id: message.id }, "aria-labelledby": this.heading.id },
      this.heading, this.parts, this.thinking, this.state, this.text, this.calls, this.foot);
    this.showPlain();
  }

  label() {
    const { role, model = "", tool_name = "" } = this.message;
    if (role === "user") return t("youSaid");
    if (role === "assistant") return t("answerOf", { model });
    return role === "tool" ? t("toolResult", { name: tool_name }) : t("systemMessage");
  }

  /** Take over the message as it is now: another tab may have gone on with it. @param {Message} message */
  replace(message) {
    if (message.content !== this.message.content) forgetBlocks(message.id);
    this.message = message;
  }

  /** The text as it is, until its HTML is there. */
  showPlain() {
    fill(this.text, plain(this.message.content));
  }

  /** @param {Message[]} siblings */
  update(siblings) {
    this.siblings = siblings;
    const answer = store.now.live.get(this.message.id) ?? null;
    if (answer !== this.answer) this.follow(answer);
    if (this.isRevealed && !this.isEditing) this.draw();
  }

  /** Show an answer while it is written; null: it is complete. @param {import("./streams.js").Answer | null} answer */
  follow(answer) {
    const before = this.answer;
    this.answer = answer;
    this.element.classList.toggle("live", answer !== null);
    this.element.setAttribute("aria-busy", String(answer !== null));
    if (answer) {
      forgetBlocks(this.message.id);
      answer.watchers.add(this.drawLive);
      this.reveal();
      return;
    }
    if (!before) return;
    before.watchers.delete(this.drawLive);
    if (before.blocks.length && before.blocks.every((block) => block?.final)) keepBlocks(this.message.id, before.blocks.map((block) => block.html));
    fill(this.state);
  }

  /** Make all of it, because it comes into view. */
  reveal() {
    if (this.isRevealed) return;
    this.isRevealed = true;
    this.draw();
  }

  draw() {
    const label = this.label();
    if (this.heading.textContent !== label) this.heading.textContent = label;
    this.drawParts();
    this.drawCalls();
    this.drawFoot();
    if (this.answer) this.drawLive();
    else this.drawStored();
  }

  async drawStored() {
    const { message } = this;
    this.drawThinking();
    if (message.role !== "assistant" || !message.content) return this.showPlain();
    const blocks = await blocksOf(message.id);
    if (!blocks || this.answer || this.isEditing) return;
    this.useBlocks(blocks.map((html) => ({ html, final: true })));
  }

  /** @param {Block[]} blocks */
  useBlocks(blocks) {
    if (!this.text.firstElementChild?.classList.contains("blocks")) fill(this.text, h("div", { class: "blocks" }));
    showBlocks(/** @type {HTMLElement} */ (this.text.firstElementChild), blocks);
  }

  drawLive = () => {
    const { answer } = this;
    if (!answer) return;
    this.drawThinking();
    drawStage(this.state, answer);
    if (answer.blocks.length) this.useBlocks(answer.blocks.filter(Boolean));
    else if (!answer.message.content) fill(this.text);
    if (answer.message.tool_calls?.length !== this.calls.childElementCount) this.drawCalls();
  };

  drawThinking() {
    const { thinking } = this.message;
    if (!thinking) return fill(this.thinking);
    const details = this.thinking.querySelector("details") ?? this.makeThinking();
    const summary = /** @type {HTMLElement} */ (details.firstElementChild);
    const title = this.thinkingTitle();
    if (summary.lastChild?.textContent !== title) fill(summary, icon("think"), h("span", null, title));
    this.thoughts.show(thinking);
  }

  makeThinking() {
    this.thoughts = new GrowingText();
    const details = h("details", { class: "thinking", open: this.answer !== null && prefs.now.showThinking }, h("summary"), h("div", { tabindex: 0 }, this.thoughts.element));
    fill(this.thinking, details);
    return details;
  }

  thinkingTitle() {
    const { usage } = this.message;
    const thoughtFor = this.answer?.thinkingFor ?? (usage ? (usage.thinking_duration ?? 0) / 1e6 : null);
    if (thoughtFor !== null) return t("thoughtFor", { time: time(thoughtFor) });
    return this.answer ? t("thinkingNow") : t("thinking");
  }

  drawParts() {
    const parts = (this.message.parts ?? []).filter((part) => part.type !== "text");
    fill(this.parts, parts.map(partView));
  }

  drawCalls() {
    fill(this.calls, (this.message.tool_calls ?? []).map((call) =>
      h("details", { class: "call" }, h("summary", null, icon("tool"), h("span", null, t("toolCall", { name: call.name }))),
        h("div", { class: "arguments", tabindex: 0 },
          plain(typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments, null, 2))))));
  }

  // ---- below the text ----

  drawFoot() {
    const { message, answer } = this;
    const isAnswer = message.role === "assistant";
    const { status, stop_reason, usage, error, model } = message;
    const key = JSON.stringify([!answer, status, stop_reason, usage, error, model, this.siblings.map(({ id }) => id)]);
    if (key === this.footKey) return; // figures that are open stay open, and the focus where it is
    this.footKey = key;
    if (answer) return fill(this.foot);
    fill(this.foot,
      message.error ? h("p", { class: "error", dir: "auto" }, icon("warning"), t("failed", { error: message.error.message })) : null,
      h("div", { class: "foot-row" },
        this.siblings.length > 1 ? this.branches() : null,
        h("div", { class: "actions", role: "toolbar", "aria-label": t("more") },
          isAnswer && canContinue(message) ? iconButton("continue", t("continue"), () => continueAnswer(message.id)) : null,
          isAnswer && message.parent ? iconButton("retry", t("retry"), () => retry(/** @type {string} */ (message.parent))) : null,
          this.copyButton(),
          iconButton("edit", t("editMessage"), () => this.edit(), { data: { action: "edit" } }),
          this.moreButton()),
        isAnswer ? figures(message) : null));
  }

  copyButton() {
    const button = iconButton("copy", t("copyText"), () => copyText(this.message.content, button));
    return button;
  }

  moreButton() {
    const { message } = this;
    const button = iconButton("more", t("more"), () => openMenu(button, [
      ...(message.role === "assistant" ? otherModels(message) : []),
      { title: t("deleteMessage"), icon: "delete", danger: true, run: () => this.askDelete() },
    ]));
    return button;
  }

  async askDelete() {
    if (await confirmDialog(t("deleteMessage"), t("deleteMessageAsk"), t("delete"))) deleteMessage(this.message);
  }

  branches() {
    const at = this.siblings.indexOf(this.message);
    const go = (/** @type {number} */ index) => () => showBranch(this.siblings[index].id);
    return h("div", { class: "branches", role: "group", "aria-label": t("branch", { n: at + 1, all: this.siblings.length }) },
      iconButton("back", t("branchPrevious"), go(at - 1), { disabled: at === 0 }),
      h("span", null, `${at + 1}/${this.siblings.length}`),
      iconButton("forward", t("branchNext"), go(at + 1), { disabled: at === this.siblings.length - 1 }));
  }

  /** Edit the text in place: a user's message is sent again, an answer is replaced, each as a new branch. */
  edit() {
    const { message } = this;
    this.isEditing = true;
    this.element.classList.add("editing");
    const area = h("textarea", { value: message.content, "aria-label": t("editMessage"), dir: "auto", rows: 3 });
    const end = () => {
      this.isEditing = false;
      this.element.classList.remove("editing");
      this.footKey = "";
      this.showPlain();
      this.draw();
      /** @type {HTMLElement | null} */ (this.foot.querySelector("button"))?.focus();
    };
    const save = () => {
      const parts = (message.parts ?? []).filter((part) => part.type !== "text");
      const content = area.value;
      end();
      if (message.role === "user") resend(message, parts.length ? [{ type: "text", text: content }, ...parts] : content);
      else editAnswer(message, content);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") end();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    fill(this.text, area);
    fill(this.foot, h("div", { class: "edit-buttons" },
      h("button", { type: "button", on: { click: end } }, t("cancel")),
      h("button", { type: "button", class: "primary", on: { click: save } }, message.role === "user" ? t("send") : t("save"))));
    area.focus();
  }

  remove() {
    this.answer?.watchers.delete(this.drawLive);
    this.element.remove();
  }
}

/** @param {Message} message */
function canContinue({ status, stop_reason }) {
  return status === "stopped" || status === "failed" || stop_reason === "length";
}

/** @param {Message} message */
function otherModels(message) {
  const names = (store.now.models ?? []).filter(canChat).map((each) => shortName(each.name)).filter((name) => name !== shortName(message.model ?? ""));
  return names.slice(0, 12).map((name) => ({ title: t("retryWith", { model: name }), icon: "retry", run: () => void retry(/** @type {string} */ (message.parent), name) }));
}

/** @param {Part} part */
function partView(part) {
  const address = `/api/attachments/${part.digest}`;
  const file = h("a", { class: "file", href: address, download: part.name ?? "" }, icon("file"), h("span", { dir: "auto" }, part.name || t("image")));
  if (part.type !== "image") return file;
  const image = h("img", { src: address, alt: part.name || t("image"), loading: "lazy" });
  image.addEventListener("error", () => image.replaceWith(file)); // a format that this browser does not show
  return image;
}

/** What an answer waits for, until its first text. @param {HTMLElement} slot @param {import("./streams.js").Answer} answer */
export function drawStage(slot, { stage, message }) {
  if (stage.name === "writing" || stage.name === "thinking" || message.content) return fill(slot);
  const text = { waiting: t("stageWaiting"), queued: t("stageQueued", { n: stage.position ?? 1 }), loading: loadOf(stage.stage, 0).text, prefill: t("stagePrefill") }[stage.name];
  const fraction = stage.name === "queued" ? undefined : stage.name === "loading" ? loadOf(stage.stage, stage.fraction).share : stage.fraction;
  const [label, bar] = slot.children;
  const shown = fraction === undefined ? text : `${text}: ${Math.round(fraction * 100)} %`;
  if (bar instanceof HTMLProgressElement && (bar.position >= 0) === (fraction !== undefined)) {
    label.textContent = shown;
    if (fraction !== undefined) bar.value = fraction;
  } else fill(slot, h("span", null, shown), h("progress", { max: 1, "aria-label": text, ...(fraction === undefined ? {} : { value: fraction }) }));
}
