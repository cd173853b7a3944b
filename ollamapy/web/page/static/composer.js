// Where messages are written: the text, attachments, the queue, and reading ahead while the user types.

import { ask, post } from "./api.js";
import { currentAnswer, send, stop } from "./chats.js";
import { showError, toast } from "./dialogs.js";
import { delayed, fill, h, icon, iconButton } from "./dom.js";
import { capabilitiesOf } from "./facts.js";
import { contextShort, gauge } from "./figures.js";
import { command } from "./keys.js";
import { installed, shortName } from "./library.js";
import { openModels } from "./models.js";
import { enqueue, sendAgain, unqueue } from "./queue.js";
import { prefs, store } from "./state.js";
import { bytes, t } from "./texts.js";
import { pathTo } from "./tree.js";

const DRAFTS = "ollamapy.draft."; // in the session's storage, by chat
const PREFILL_AFTER = 400; // ms without a key
const MOST_BYTES = 32 * 2 ** 20; // of a file, as the daemon takes it

/** What a model must be able to do for files of a kind, and what is said where it is not. */
const NEEDS = { "image/": { capability: "vision", text: "seesNoImages" }, "audio/": { capability: "audio", text: "hearsNoSounds" } };

/** @typedef {{part: Part | null, name: string, size: number}} Attachment `part` is null while it is uploaded */

/** @param {HTMLElement} composer */
export function setup(composer) {
  new Composer(composer);
}

class Composer {
  /** @type {Attachment[]} */
  attachments = [];
  isSending = false;
  /** @type {string | null} */
  chat = store.now.chat.id;

  /** @param {HTMLElement} composer */
  constructor(composer) {
    this.text = h("textarea", { id: "composer-text", rows: 1, placeholder: t("message"), "aria-label": t("message"), dir: "auto", enterkeyhint: "send" });
    this.files = h("input", { type: "file", multiple: true, hidden: true });
    this.attached = h("ul", { class: "attached", "aria-label": t("attachments") });
    this.blind = h("p", { class: "notice", role: "status", hidden: true });
    this.queue = h("ul", { class: "queue", "aria-label": t("queued") });
    this.stop = iconButton("stop", t("stop"), () => this.stopAnswer(), { class: "stop" });
    this.send = iconButton("send", t("send"), () => this.submit(), { class: "send" });
    this.context = h("span", { class: "context" });
    this.box = h("form", { class: "box", on: { submit: (/** @type {Event} */ event) => { event.preventDefault(); this.submit(); } } },
      this.attached, this.text,
      this.blind,
      h("div", { class: "box-row" }, iconButton("attach", t("attach"), () => this.#choose()), iconButton("camera", t("takePhoto"), () => this.#choose(true), { class: "camera" }),
        this.context, this.stop, this.send), this.files);
    this.hint = h("small", { hidden: true }, t("temporaryHint"));
    this.start = h("div", { class: "start", hidden: true }, h("small", null, t("noModelsYet")), h("button", { type: "button", class: "primary", on: { click: () => openModels("get") } }, t("getModel")));
    fill(composer, h("p", { class: "notice offline", role: "status" }), h("div", { class: "greeting" }, t("greeting"), this.hint, this.start), this.queue, this.box);
    this.offline = /** @type {HTMLElement} */ (composer.firstElementChild);
    this.#listen(composer);
    store.watch(["chat"], () => this.#changeChat());
    store.watch(["chat", "messages", "live", "queue", "offline", "models"], () => this.draw());
    this.#restore();
    this.draw();
    this.text.focus();
  }

  /** @param {HTMLElement} composer */
  #listen(composer) {
    this.text.addEventListener("keydown", (event) => this.#key(event));
    this.text.addEventListener("input", () => {
      this.#typed();
      prefill();
    });
    const prefill = delayed(() => this.#prefill(), PREFILL_AFTER);
    this.text.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      this.attach(files);
    });
    this.files.addEventListener("change", () => {
      this.attach([...(this.files.files ?? [])]);
      this.files.value = "";
    });
    acceptDrops(composer, (files) => this.attach(files));
    command({ id: "composer.focus", title: t("focusMessage"), keys: "shift+escape", run: () => this.text.focus() });
    command({ id: "composer.attach", title: t("attach"), keys: "mod+shift+u", run: () => this.#choose() });
    addEventListener("pagehide", () => this.#keep());
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.isComposing) return;
    const withMod = event.ctrlKey || event.metaKey;
    if (event.key === "Enter" && (withMod || (prefs.now.enterSends && !event.shiftKey && !event.altKey))) {
      event.preventDefault();
      this.submit();
    } else if (event.key === "ArrowUp" && !this.text.value) {
      const last = pathTo(store.now.messages, store.now.chat.head).filter((each) => each.role === "user").at(-1);
      const button = last && document.querySelector(`[data-id="${CSS.escape(last.id)}"] [data-action="edit"]`);
      if (!(button instanceof HTMLElement)) return;
      event.preventDefault();
      button.click();
    }
  }

  #typed() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight}px`;
    this.draw();
  }

  draw() {
    const answer = currentAnswer();
    const isEmpty = !this.text.value.trim() && !this.attachments.length;
    this.hint.hidden = !store.now.chat.temporary;
    this.start.hidden = store.now.models?.length !== 0;
    if (!answer && document.activeElement === this.stop) this.text.focus(); // it goes away
    this.stop.hidden = !answer;
    this.send.hidden = answer !== null && isEmpty;
    this.send.disabled = isEmpty || this.isSending || this.attachments.some((each) => !each.part);
    this.send.setAttribute("aria-label", answer ? t("queue") : t("send"));
    this.send.title = answer ? t("queue") : t("send");
    this.offline.textContent = store.now.offline ? t("offline") : "";
    fill(this.attached, this.attachments.map((each) => this.#attachedView(each)));
    this.#drawBlind();
    fill(this.queue, store.now.queue.filter((each) => each.chat === store.now.chat.id).map((each) =>
      h("li", null, icon(each.failed ? "warning" : "queue"), h("span", { dir: "auto" }, textOf(each.content)),
        each.failed ? iconButton("retry", t("sendAgain"), () => sendAgain(each)) : null,
        iconButton("close", t("removeQueued"), () => unqueue(each)))));
    const usage = pathTo(store.now.messages, store.now.chat.head).map((each) => each.usage).filter((each) => !!each).at(-1);
    fill(this.context, usage ? [gauge(usage), contextShort(usage)] : null);
  }

  /** Say before it is sent that the model takes no images, or no sounds. */
  #drawBlind() {
    const model = installed(store.now.chat.model);
    const needs = Object.entries(NEEDS).filter(([kind]) => this.attachments.some((each) => each.part?.media_type?.startsWith(kind)));
    const lacking = needs.find(([, { capability }]) => model && !capabilitiesOf(model).includes(capability));
    this.blind.hidden = !lacking;
    this.blind.textContent = model && lacking ? t(lacking[1].text, { model: shortName(model.name) }) : "";
  }

  /** Send what is written, or queue it while an answer is written. */
  async submit() {
    const text = this.text.value.trim();
    if (this.isSending || this.attachments.some((each) => !each.part) || (!text && !this.attachments.length)) return;
    if (!store.now.chat.model) return this.start.hidden ? toast(t("noModel"), { kind: "error" }) : openModels("get");
    const parts = this.attachments.flatMap((each) => (each.part ? [each.part] : []));
    /** @type {string | Part[]} */
    const content = parts.length ? [...(text ? [{ type: /** @type {const} */ ("text"), text }] : []), ...parts] : text;
    const before = { text: this.text.value, attachments: this.attachments };
    this.#set("", []);
    if (currentAnswer()) return enqueue(content);
    this.isSending = true;
    try {
      await send(content);
    } catch (error) {
      if (!this.text.value) this.#set(before.text, before.attachments);
      showError(error);
    } finally {
      this.isSending = false;
      this.draw();
    }
  }

  stopAnswer() {
    const answer = currentAnswer();
    if (answer) stop(answer);
  }

  /** @param {string} text @param {Attachment[]} attachments */
  #set(text, attachments) {
    this.text.value = text;
    this.attachments = attachments;
    this.#typed();
  }

  // ---- attachments ----

  /** Let the user choose files, or take a photo where the device has a camera. */
  #choose(photo = false) {
    this.files.toggleAttribute("capture", photo);
    this.files.accept = photo ? "image/*" : "";
    this.files.click();
  }

  /** Upload files and attach them. @param {File[]} files */
  attach(files) {
    for (const file of files) this.#upload(file);
  }

  /** @param {File} file */
  async #upload(file) {
    if (file.size > MOST_BYTES) return toast(t("attachFailed", { name: file.name, reason: t("fileTooLarge") }), { kind: "error" });
    /** @type {Attachment} */
    const attachment = { part: null, name: file.name, size: file.size };
    this.attachments = [...this.attachments, attachment];
    this.draw();
    const asked = new URLSearchParams({ name: file.name, ...(store.now.chat.temporary ? { temporary: "true" } : {}) });
    try {
      const { digest, name, media_type } = await ask("POST", `/api/attachments?${asked}`, { body: file });
      attachment.part = { type: media_type.startsWith("image/") ? "image" : "file", digest, name, media_type };
    } catch (error) {
      this.attachments = this.attachments.filter((each) => each !== attachment);
      toast(t("attachFailed", { name: file.name, reason: /** @type {Error} */ (error).message }), { kind: "error" });
    }
    this.draw();
  }

  /** @param {Attachment} attachment */
  #attachedView(attachment) {
    const remove = () => {
      this.attachments = this.attachments.filter((each) => each !== attachment);
      this.draw();
      this.text.focus();
    };
    return h("li", { class: attachment.part ? "" : "uploading" }, preview(attachment), h("span", { dir: "auto" }, attachment.name), h("small", null, bytes(attachment.size)),
      iconButton("close", t("removeAttachment", { name: attachment.name }), remove));
  }

  // ---- drafts: what is written stays with its chat ----

  #changeChat() {
    const { id } = store.now.chat;
    if (id === this.chat) return;
    const isCreated = this.chat === null && store.now.messages.size === 0 && this.isSending;
    if (!isCreated) this.#keep();
    this.chat = id;
    if (isCreated) return;
    this.#restore();
    if (!matchMedia("(pointer: coarse)").matches) this.text.focus();
  }

  #keep() {
    try {
      const draft = JSON.stringify({ text: this.text.value, attachments: this.attachments.filter((each) => each.part) });
      sessionStorage.setItem(DRAFTS + (this.chat ?? ""), draft);
    } catch {
      // storage is off or full: the draft is lost when the chat is left
    }
  }

  #restore() {
    let draft = { text: "", attachments: [] };
    try {
      const key = DRAFTS + (this.chat ?? "");
      draft = JSON.parse(sessionStorage.getItem(key) ?? "null") ?? draft;
      sessionStorage.removeItem(key); // else it would come again once it is sent
    } catch {
      // as above
    }
    this.#set(draft.text, draft.attachments);
  }

  // ---- reading ahead ----

  #prefill() {
    const { id, model, head } = store.now.chat;
    if (!prefs.now.prefill || !id || !head || !model || currentAnswer() || !this.text.value.trim()) return;
    post(`/api/chats/${id}/prefill`, { parent: head }).catch(() => {}); // it is only to be quicker
  }
}

/** @param {Attachment} attachment */
function preview({ part }) {
  if (part?.type !== "image") return icon("file");
  const image = h("img", { src: `/api/attachments/${part.digest}`, alt: "" });
  image.addEventListener("error", () => image.replaceWith(icon("file"))); // a format that this browser does not show
  return image;
}

/** @param {string | Part[]} content */
function textOf(content) {
  return typeof content === "string" ? content : content.map((part) => part.text ?? part.name ?? "").join(" ");
}

/** Take files that are dropped anywhere on the page. @param {HTMLElement} composer @param {(files: File[]) => void} take */
function acceptDrops(composer, take) {
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    composer.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) composer.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    composer.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    take([...(event.dataTransfer?.files ?? [])]);
  });
}
