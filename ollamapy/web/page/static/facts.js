// What lists show of a model: sizes, capabilities, whether it fits into the memory. Pure.

import { bytes, number, t } from "./texts.js";

/** @typedef {"ready" | "starting" | "stopping" | "fits" | "after" | "never" | "unknown"} Fit */

/**
 * Whether a model is loaded, or fits into the memory: "after" other models are unloaded, "never" on this machine.
 * @param {ListedModel} model
 * @param {RunningModel[]} running
 * @param {Memory | null} memory
 * @returns {Fit}
 */
export function fitOf(model, running, memory) {
  const loaded = running.find((each) => each.name === model.name || each.digest === model.digest);
  if (loaded) return /** @type {Fit} */ (loaded.status ?? "ready");
  if (!memory || !model.memory) return "unknown";
  if (model.memory <= memory.free) return "fits";
  const idle = running.filter((each) => !each.in_flight).reduce((sum, each) => sum + each.size, 0);
  return model.memory <= memory.free + idle ? "after" : model.memory > memory.total ? "never" : "after";
}

/** @param {Fit} fit @param {number} needed bytes @param {Memory | null} memory */
export function fitText(fit, needed, memory) {
  const values = { needed: bytes(needed), free: bytes(memory?.free ?? 0), total: bytes(memory?.total ?? 0) };
  const texts = { ready: "fitReady", starting: "fitStarting", stopping: "fitStopping", fits: "fitFits", after: "fitAfter", never: "fitNever", unknown: "" };
  return texts[fit] && t(texts[fit], values);
}

/** What a load does, and the share of it that can be shown: only that of the weights is known. @param {string | null | undefined} stage @param {number | undefined} fraction */
export function loadOf(stage, fraction) {
  /** @type {Record<string, string>} */
  const texts = { starting: "loadStarting", weights: "loadWeights", context: "loadContext", "warm-up": "loadWarmUp" };
  return { text: t(texts[stage ?? ""] ?? "stageLoading"), share: stage === "weights" ? fraction : undefined };
}

/** A text with its share: "Loading the weights: 40 %". @param {{text: string, share: number | undefined}} load */
export const withShare = ({ text, share }) => (share === undefined ? text : `${text}: ${Math.round(100 * share)} %`);

/** Whether a list needs a line about the memory: not where a model simply fits. @param {Fit} fit @param {number} needed bytes @param {Memory | null} memory */
export function stateText(fit, needed, memory) {
  return fit === "fits" ? "" : fitText(fit, needed, memory);
}

/** Parameters, quantization, size and context. @param {ListedModel} model @returns {string[]} */
export function sizesOf({ details, size }) {
  return [
    details.parameter_size ?? "",
    details.quantization_level ?? "",
    bytes(size),
    details.context_length ? t("contextOf", { tokens: tokens(details.context_length) }) : "",
  ].filter(Boolean);
}

/** A number of tokens as it is spoken of: 8k, 131k. @param {number} count */
export function tokens(count) {
  return count >= 1000 && count % 1000 === 0 ? `${number(count / 1000)}k` : count >= 1024 ? `${number(Math.round(count / 1024))}k` : number(count);
}

/** All that an installed model can do. @param {ListedModel} model @returns {string[]} */
export const capabilitiesOf = ({ full_capabilities, capabilities }) => full_capabilities ?? capabilities ?? [];

/** The capabilities that are worth a badge. @param {string[] | undefined} names @returns {string[]} */
export function capabilityTexts(names) {
  /** @type {Record<string, string>} */
  const texts = { vision: "canVision", audio: "canAudio", tools: "canTools", thinking: "canThinking", insert: "canInsert", embedding: "canEmbedding" };
  return (names ?? []).filter((name) => name in texts).map((name) => t(texts[name]));
}

/** How long until a time, roughly: "4 min". @param {string} until RFC 3339 @param {number} now ms */
export function untilText(until, now) {
  const seconds = (Date.parse(until) - now) / 1000;
  if (!(seconds < 3e8)) return t("untilForever");
  if (seconds <= 0) return t("untilNow");
  if (seconds < 90) return t("untilSeconds", { count: Math.ceil(seconds) });
  if (seconds < 5400) return t("untilMinutes", { count: Math.round(seconds / 60) });
  return t("untilHours", { count: Math.round(seconds / 3600) });
}
