// The figures of an answer: tokens, speed, the time to the first token, what was reused, and how much of the context is used.

import { h, icon } from "./dom.js";
import { shortName } from "./library.js";
import { moment, number, t, time } from "./texts.js";

const NS = 1e6; // nanoseconds in a millisecond

/** @param {Message} message */
export function figures({ usage, status, stop_reason, model, created_at }) {
  const ending = status === "stopped" ? t("stopped") : stop_reason === "length" ? t("cutByLength") : "";
  if (!usage) return h("span", { class: "figures" }, shortName(model ?? ""), ending ? ` · ${ending}` : "");
  const { completion_tokens: written = 0, completion_duration = 0, first_token_duration, prompt_tokens = 0, cached_tokens = 0, restored_tokens = 0, read_tokens = 0 } = usage;
  const speed = completion_duration ? written / (completion_duration / 1e9) : 0;
  const short = [shortName(model ?? ""), ending, speed ? t("figureSpeed", { speed: speed.toFixed(1) }) : ""].filter(Boolean).join(" · ");
  const rows = [
    t("figureTokens", { n: written }) + (speed ? `, ${t("figureSpeed", { speed: speed.toFixed(1) })}` : ""),
    first_token_duration ? t("figureFirst", { time: time(first_token_duration / NS) }) : "",
    t("figurePrompt", { tokens: prompt_tokens, cached: cached_tokens })
      + (restored_tokens ? `, ${t("figureRestored", { memory: restored_tokens - read_tokens, disk: read_tokens })}` : ""),
    usage.cache_note ? t("figureCache", { note: usage.cache_note }) : "",
    contextText(usage),
    cutText(usage),
    ...(usage.notes ?? []),
    created_at ? t("figureBegun", { at: moment(created_at) }) : "",
  ].filter(Boolean);
  return h("details", { class: "figures" },
    h("summary", null, h("span", null, short), gauge(usage), usage.truncated_tokens || usage.notes?.length ? icon("warning") : null),
    h("ul", null, rows.map((row) => h("li", null, row))));
}

/** What was left out of the prompt, and why. @param {Usage} usage */
function cutText({ truncated_tokens, dropped_messages }) {
  const messages = dropped_messages ? ` (${t("figureDropped", { n: dropped_messages })})` : "";
  return truncated_tokens ? t("figureCut", { tokens: truncated_tokens }) + messages : "";
}

/** @param {Usage} usage */
function contextText({ context_used, context_length }) {
  return context_length ? t("figureContext", { used: context_used ?? 0, all: context_length }) : "";
}

/** How much of the context is used, as a small bar: reused, read, and written. @param {Usage} usage */
export function gauge(usage) {
  const { context_used = 0, context_length = 0, cached_tokens = 0 } = usage;
  if (!context_length) return null;
  const share = Math.min(1, context_used / context_length);
  const bar = h("span", { class: ["gauge", share > 0.9 && "full"], role: "img", "aria-label": contextText(usage), title: contextText(usage) }, h("span", { class: "reused" }), h("span", { class: "used" }));
  const [reused, used] = /** @type {HTMLElement[]} */ ([...bar.children]);
  const cached = Math.min(share, cached_tokens / context_length);
  reused.style.width = `${100 * cached}%`;
  used.style.width = `${100 * (share - cached)}%`;
  return bar;
}

/** The context of a chat's latest answer, for beside the composer. @param {Usage} usage */
export function contextShort({ context_used = 0, context_length = 0 }) {
  return context_length ? `${number(context_used)} / ${number(context_length)}` : "";
}
