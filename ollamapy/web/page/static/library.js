// What can be done with models: each is a request, and then a change of the store. The lists are fetched again while something
// changes (a pull, a load), and every few seconds otherwise.

import { get, open, post, remove } from "./api.js";
import { showError, toast } from "./dialogs.js";
import { prefs, store } from "./state.js";
import { t } from "./texts.js";

const QUICK = 700; // ms between two looks while something changes
const SLOW = 6000;

let timer = 0;

/** Fetch what the lists show, now and from now on. */
export function watchLibrary() {
  loadModels();
  look();
  document.addEventListener("visibilitychange", look);
  store.watch(["live"], soon); // an answer may load a model
  store.watch(["chat"], chooseFirst);
}

/** Look again at what runs, at once. */
export async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  await Promise.all([loadRunning(), loadJobs()]);
  clearTimeout(timer);
  timer = setTimeout(look, isBusy() ? QUICK : SLOW);
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(look, QUICK);
}

function isBusy() {
  const { jobs, running } = store.now;
  return (jobs ?? []).some((job) => job.status === "running") || running.some((model) => model.status !== "ready");
}

/** Fetch the installed models. */
export async function loadModels() {
  try {
    const { models } = await get("/api/tags");
    store.set({ models });
    chooseFirst();
  } catch (error) {
    if (store.now.models !== null) showError(error);
  }
}

/** Give a chat that has not begun a model that is installed: the one that was chosen last, else the newest. */
function chooseFirst() {
  const { chat, models } = store.now;
  if (!models || chat.id || installed(chat.model)) return;
  const first = installed(prefs.now.model) ?? models.find(canChat);
  if (chat.model !== (first?.name ?? "")) store.set({ chat: { ...chat, model: first?.name ?? "" } });
}

async function loadRunning() {
  const found = await get("/api/ps").catch(() => null);
  if (found) store.set({ running: found.models, memory: found.memory ?? null });
}

async function loadJobs() {
  const before = store.now.jobs;
  try {
    const { jobs } = await get("/api/jobs");
    store.set({ jobs });
    for (const job of jobs) if (job.status !== "running" && before?.some((each) => each.id === job.id && each.status === "running")) ended(job);
  } catch (error) {
    if (/** @type {any} */ (error).status === 403) store.set({ jobs: null }); // this user may not manage models
  }
}

/** @param {Job} job */
function ended(job) {
  if (job.status === "done") {
    loadModels();
    toast(t(job.kind === "push" ? "pushDone" : job.kind === "create" ? "createDone" : "pullDone", { name: job.progress?.model || job.model }));
  } else if (job.status === "failed") toast(t("jobFailed", { name: job.model, error: job.error?.message ?? "" }), { kind: "error", seconds: 12 });
}

// ---- names ----------------------------------------------------------------------------------------------------------

/** A name as it is shown: without the tag that is meant where none is given. @param {string} name */
export const shortName = (name) => name.replace(/:latest$/, "");

/** The installed model of a name, as it may be written. @param {string} name @returns {ListedModel | undefined} */
export function installed(name) {
  const wanted = shortName(name).toLowerCase();
  return (store.now.models ?? []).find((model) => shortName(model.name).toLowerCase() === wanted);
}

/** Can a model answer a conversation? @param {ListedModel} model */
export const canChat = (model) => !model.capabilities?.length || model.capabilities.includes("completion");

// ---- pulls and creations --------------------------------------------------------------------------------------------

/** Begin to pull a model, or go on where a pull ended. It goes on when the page is closed. @param {string} name */
export async function pull(name) {
  try {
    await post("/api/pull", { model: name, background: true });
  } catch (error) {
    showError(error);
  }
  await look();
}

/** Begin to create a model from a Modelfile; the job. Throws ApiError. @param {string} name @param {string} modelfile @param {string} quantize */
export async function create(name, modelfile, quantize) {
  const job = await post("/api/create", { model: name, modelfile, quantize, background: true });
  await look();
  return job;
}

/** Cancel a running job, or forget one that has ended. @param {Job} job */
export async function endJob(job) {
  await open("DELETE", `/api/jobs/${job.id}`).catch(showError);
  await look();
}

// ---- stored and loaded models ---------------------------------------------------------------------------------------

/** Delete a model. Resolves to whether it is gone. @param {string} name */
export async function deleteModel(name) {
  try {
    await remove("/api/delete", { model: name });
  } catch (error) {
    showError(error);
    return false;
  }
  await loadModels();
  toast(t("modelDeleted", { name: shortName(name) }));
  return true;
}

/** Give a model another name. @param {string} source @param {string} destination */
export async function copyModel(source, destination) {
  await open("POST", "/api/copy", { body: { source, destination } }).catch(showError);
  await loadModels();
}

/** Load a model, so that its first answer begins at once. @param {string} name */
export function loadModel(name) {
  post("/api/generate", { model: name }).catch(showError).then(look);
  soon();
}

/** Unload a model, once nothing uses it. @param {string} name */
export async function unloadModel(name) {
  await post("/api/generate", { model: name, keep_alive: 0 }).catch(showError);
  await look();
}
