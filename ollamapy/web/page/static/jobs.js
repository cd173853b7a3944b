// Running pulls and creations as they are seen: progress, speed, cancel, resume.

import { h, iconButton } from "./dom.js";
import { endJob, pull, shortName } from "./library.js";
import { sync } from "./lists.js";
import { store } from "./state.js";
import { bytes, t, time } from "./texts.js";

const SPEED_OVER = 5000; // ms over which the speed is measured

/** @type {Map<string, {at: number, completed: number}[]>} what each job had completed, lately */
const seen = new Map();

/**
 * A list of jobs that keeps itself up to date.
 * @param {(end: () => void) => void} onend takes a function that ends the updates
 * @param {(job: Job) => boolean} [isShown]
 */
export function jobsView(onend, isShown = () => true) {
  const list = h("ul", { class: "jobs", "aria-label": t("jobs") });
  const draw = () => sync(list, (store.now.jobs ?? []).filter(isShown).reverse(), (job) => job.id, () => jobRow());
  onend(store.watch(["jobs"], draw));
  draw();
  return list;
}

/** @returns {import("./lists.js").Row<Job>} */
function jobRow() {
  const title = h("span", { class: "title", dir: "auto" });
  const state = h("span", { class: "facts" });
  const bar = h("progress", { max: 1 });
  const resume = iconButton("retry", "", () => job && pull(job.model));
  const end = iconButton("close", "", () => job && endJob(job));
  /** @type {Job | null} */
  let job = null;
  const element = h("li", { class: "job" }, title, resume, end, bar, state);
  return {
    element,
    update(next) {
      job = next;
      const name = shortName(next.model);
      const isRunning = next.status === "running";
      title.textContent = t(next.kind === "create" ? "jobCreate" : next.kind === "push" ? "jobPush" : "jobPull", { name });
      state.textContent = stateText(next);
      element.className = `job ${next.status}`;
      bar.hidden = !isRunning;
      if (next.total) bar.value = next.completed / next.total;
      else bar.removeAttribute("value");
      bar.setAttribute("aria-label", title.textContent);
      resume.hidden = next.kind !== "pull" || next.status === "running" || next.status === "done";
      label(resume, t(next.status === "cancelled" ? "resumePull" : "retryPull", { name }));
      label(end, t(isRunning ? "cancelJob" : "dismissJob", { name }));
    },
  };
}

/** @param {HTMLElement} button @param {string} text */
function label(button, text) {
  button.title = text;
  button.setAttribute("aria-label", text);
}

/** @param {Job} job */
function stateText(job) {
  const { status, progress, completed, total, error } = job;
  if (status === "failed") return error?.message ?? "";
  if (status === "cancelled") return total ? t("cancelledAt", { completed: bytes(completed), total: bytes(total) }) : t("jobCancelled");
  if (status === "done") return progress?.note || t("jobDone");
  const step = stepText(progress);
  if (!total || completed === total) return step;
  const speed = speedOf(job);
  const left = speed > 0 ? t("timeLeft", { speed: bytes(speed), time: time(((total - completed) / speed) * 1000) }) : "";
  return [t("ofBytes", { completed: bytes(completed), total: bytes(total) }), left, progress?.note ?? ""].filter(Boolean).join(" · ");
}

/** The daemon's words for a step, without digests. @param {Job["progress"]} progress */
function stepText(progress) {
  if (!progress) return t("stageWaiting");
  const status = progress.status.replace(/ ?(sha256:)?[0-9a-f]{12,}/g, "").trim();
  return [status, progress.note ?? ""].filter(Boolean).join(" · ");
}

/** Bytes a second, over the last seconds. @param {Job} job */
function speedOf({ id, completed }) {
  const now = performance.now();
  const past = (seen.get(id) ?? []).filter((each) => now - each.at < SPEED_OVER);
  past.push({ at: now, completed });
  seen.set(id, past);
  const [first] = past;
  return now > first.at ? ((completed - first.completed) / (now - first.at)) * 1000 : 0;
}
