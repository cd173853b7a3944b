// The messages of the open chat: one view for each message on the shown path, and where the thread is scrolled to.

import { copyText } from "./blocks.js";
import { currentAnswer, stop } from "./chats.js";
import { fill, h, iconButton } from "./dom.js";
import { command } from "./keys.js";
import { MessageView } from "./message.js";
import { store } from "./state.js";
import { t } from "./texts.js";
import { childrenOf, pathTo } from "./tree.js";

const NEAR = "1000px 0px"; // messages within this distance of the screen are made
const FIRST = 24; // messages that are made at once when a chat is opened: those at its end, more than a screen has
const STEP = 60; // and so many of the others in each idle moment
const AT_END = 24; // pixels from the end that count as the end

/** @param {HTMLElement} thread */
export function setup(thread) {
  const list = h("div", { class: "messages" });
  const scroller = h("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": t("messages") }, list);
  const jump = iconButton("down", t("jumpDown"), () => end.follow(), { class: "jump", hidden: true });
  const news = h("p", { class: "off-screen", role: "status" }); // for screen readers
  fill(thread, scroller, jump, news);
  const end = new EndOfThread(scroller, jump);
  const views = new Views(list, scroller);
  let chat = store.now.chat.id;
  let head = store.now.chat.head;
  let isWriting = false;
  const goToTarget = () => {
    const view = views.get(store.now.target ?? "");
    if (!view) return;
    store.set({ target: null });
    view.reveal();
    end.leaveAt(view.element);
  };
  views.onmore = goToTarget;
  const draw = () => {
    const now = store.now.chat;
    const isOther = now.id !== chat && !(chat === null && now.head && views.size === 0);
    const isLonger = now.head !== head;
    [chat, head] = [now.id, now.head];
    thread.classList.toggle("empty", !now.head);
    views.draw(pathTo(store.now.messages, now.head));
    if (isOther || isLonger) end.follow();
    else end.keep();
    goToTarget();
    const wasWriting = isWriting;
    isWriting = currentAnswer() !== null;
    if (wasWriting !== isWriting) news.textContent = isWriting || isOther ? "" : t("answerFinished");
  };
  store.watch(["chat", "messages", "live", "loading", "target"], draw);
  draw();
  command({ id: "answer.stop", title: t("stopAnswer"), keys: "escape", when: () => currentAnswer() !== null, run: () => {
    const answer = currentAnswer();
    if (answer) stop(answer);
  } });
  command({ id: "answer.copy", title: t("copyAnswer"), keys: "mod+shift+c", when: () => views.size > 0, run: () => copyText(views.lastAnswer()?.content ?? "") });
}

const whenIdle = window.requestIdleCallback ?? ((/** @type {() => void} */ run) => setTimeout(run, 1)); // Safari has none

/** The views of the messages on the path. Those of a chat that is opened are made from its end, and bit by bit. */
class Views {
  /** @type {Map<string, MessageView>} */
  #views = new Map();
  /** @type {Message[]} */
  #path = [];
  #from = 0; // where in the path the messages begin that have views
  #isWaiting = false; // for an idle moment

  /** @param {HTMLElement} list @param {HTMLElement} scroller */
  constructor(list, scroller) {
    this.list = list;
    this.scroller = scroller;
    this.onmore = () => {};
    this.near = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        this.near.unobserve(target);
        this.#views.get(/** @type {HTMLElement} */ (target).dataset.id ?? "")?.reveal();
      }
    }, { root: scroller, rootMargin: NEAR });
  }

  get size() {
    return this.#views.size;
  }

  /** @param {string} id */
  get(id) {
    return this.#views.get(id);
  }

  lastAnswer() {
    return this.#path.filter((message) => message.role === "assistant").at(-1);
  }

  /** @param {Message[]} path */
  draw(path) {
    const wanted = new Set(path.map((message) => message.id));
    const hadFocus = this.list.contains(document.activeElement);
    for (const [id, view] of this.#views)
      if (!wanted.has(id)) {
        this.near.unobserve(view.element);
        view.remove();
        this.#views.delete(id);
      }
    const made = path.findIndex((message) => this.#views.has(message.id));
    this.#from = made < 0 ? Math.max(0, path.length - FIRST) : made;
    this.#path = path;
    this.#place(path.slice(this.#from));
    if (hadFocus && !this.list.contains(document.activeElement)) this.scroller.focus(); // what had it is gone
  }

  /** Put messages into the list from its beginning on. @param {Message[]} messages */
  #place(messages) {
    const children = childrenOf(store.now.messages);
    /** @type {Element | null} */
    let at = this.list.firstElementChild;
    for (const message of messages) {
      const view = this.#view(message);
      if (view.element === at) at = at.nextElementSibling;
      else this.list.insertBefore(view.element, at);
      view.update(children.get(message.parent) ?? [message]);
    }
    if (this.#from > 0 && !this.#isWaiting) {
      this.#isWaiting = true;
      whenIdle(() => this.#more(), { timeout: 100 });
    }
  }

  #more() {
    this.#isWaiting = false;
    const end = this.#from;
    this.#from = Math.max(0, end - STEP);
    this.#place(this.#path.slice(this.#from, end));
    this.onmore();
  }

  /** @param {Message} message */
  #view(message) {
    const found = this.#views.get(message.id);
    if (found) {
      found.replace(message);
      return found;
    }
    const view = new MessageView(message);
    this.#views.set(message.id, view);
    this.near.observe(view.element);
    return view;
  }
}

/** Follows the end of the thread while the user is at it, and leaves the scroll position alone when not. */
class EndOfThread {
  #isFollowing = true;
  #top = 0;
  #height = 0;

  /** @param {HTMLElement} scroller @param {HTMLElement} jump */
  constructor(scroller, jump) {
    this.scroller = scroller;
    this.jump = jump;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const sizes = new ResizeObserver(() => this.keep());
    sizes.observe(/** @type {Element} */ (scroller.firstElementChild));
    sizes.observe(scroller);
  }

  /** The user has scrolled up if the place moved up although the thread did not become shorter: by whatever means. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const isAtEnd = scrollHeight - scrollTop - clientHeight <= AT_END;
    const isUp = scrollTop < this.#top - 1 && scrollHeight >= this.#height;
    if (isUp) this.#isFollowing = false;
    else if (isAtEnd) this.#isFollowing = true;
    [this.#top, this.#height] = [scrollTop, scrollHeight];
    this.jump.hidden = this.#isFollowing || isAtEnd;
  }

  /** Go to the end, and stay there. */
  follow() {
    this.#isFollowing = true;
    this.keep();
  }

  /** Leave the end for an element. @param {HTMLElement} element */
  leaveAt(element) {
    this.#isFollowing = false;
    element.scrollIntoView({ block: "start" });
    element.classList.add("target");
    element.addEventListener("animationend", () => element.classList.remove("target"), { once: true });
    this.#scrolled();
  }

  /** Stay at the end, if it is followed. */
  keep() {
    if (this.#isFollowing) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#scrolled();
  }
}
