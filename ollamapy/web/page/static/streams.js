// The answers that are being written: each follows its events to the end, through reloads and lost connections.

import { ApiError, events, open } from "./api.js";
import { store } from "./state.js";

const LONGEST_PAUSE = 10_000; // ms between attempts to connect again

/** One answer that is being written. Who shows it adds a function to `watchers`; they are called at most once a frame. */
export class Answer {
  /** @param {string} chat @param {Message} message */
  constructor(chat, message) {
    this.chat = chat;
    this.message = message;
    /** @type {Stage} */
    this.stage = { name: "waiting" };
    /** @type {Block[]} */
    this.blocks = [];
    this.last = 0; // the number of the last event
    this.thinkingSince = 0; // ms
    /** @type {number | null} */
    this.thinkingFor = null; // ms, once the thinking has ended
    /** @type {Set<() => void>} */
    this.watchers = new Set();
    this.abort = new AbortController();
    this.frame = 0;
  }

  /** Tell the watchers in the next frame. */
  changed() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      for (const tell of this.watchers) tell();
    });
  }

  /**
   * Take one event. Returns true for the last one.
   * @param {import("./api.js").StreamEvent} event
   */
  take({ id, name, data }) {
    const isEnd = name === "done" || name === "error"; // which has the number of the last piece
    if (id && id <= this.last && !isEnd) return false;
    this.last = id || this.last;
    const { message } = this;
    if (name === "queued" || name === "loading" || name === "prefill") this.stage = { name, ...data };
    else if (name === "thinking") {
      this.thinkingSince ||= performance.now();
      message.thinking = (message.thinking ?? "") + data.text;
      this.stage = { name: "thinking" };
    } else if (name === "text") {
      this.#endThinking();
      message.content += data.text;
      this.stage = { name: "writing" };
    } else if (name === "tool_call") {
      this.#endThinking();
      message.tool_calls = [...(message.tool_calls ?? []), data];
      this.stage = { name: "writing" };
    } else if (name === "html") this.blocks[data.index] = { html: data.html, final: data.final };
    else if (isEnd) {
      this.#endThinking();
      message.status = data.status ?? (name === "done" ? "done" : "failed");
      message.stop_reason = data.stop_reason;
      message.usage = data.usage ?? message.usage;
      if (name === "error") message.error = { code: data.code, message: data.message };
      return true;
    }
    this.changed();
    return false;
  }

  #endThinking() {
    if (this.thinkingSince) this.thinkingFor ??= performance.now() - this.thinkingSince;
  }
}

/**
 * Follow an answer to its end. `begun` are the events of the request that began it; without it, they are asked for. Resolves to
 * the data of the last event, or null if the answer cannot be followed any more.
 * @param {Answer} answer
 * @param {AsyncIterable<import("./api.js").StreamEvent>} [begun]
 * @returns {Promise<any>}
 */
export async function follow(answer, begun) {
  store.now.live.set(answer.message.id, answer);
  store.touch("live");
  try {
    for (let tries = 0; !answer.abort.signal.aborted; tries++) {
      try {
        for await (const event of begun ?? (await resumed(answer))) {
          if (answer.take(event)) return event.data;
          if (tries) store.set({ offline: false });
          tries = 0;
        }
      } catch (error) {
        if (error instanceof ApiError && error.status) throw error;
      }
      begun = undefined;
      if (tries) store.set({ offline: true });
      await pause(Math.min(500 * 2 ** tries, LONGEST_PAUSE));
    }
    return null;
  } finally {
    store.now.live.delete(answer.message.id);
    store.touch("live");
    answer.changed();
  }
}

/** @param {Answer} answer */
async function resumed(answer) {
  const path = `/api/chats/${answer.chat}/messages/${answer.message.id}/events?html=true`;
  const headers = answer.last ? { "Last-Event-ID": String(answer.last) } : undefined;
  return events(await open("GET", path, { headers, signal: answer.abort.signal }));
}

/** Wait, but not longer than until the network is back. @param {number} time ms */
function pause(time) {
  return new Promise((resolve) => {
    const go = () => {
      removeEventListener("online", go);
      resolve(undefined);
    };
    setTimeout(go, time);
    addEventListener("online", go);
  });
}
