// The dialog about models: installed ones, those that can be pulled, loaded ones, and creating one.

import { loadModel, copyModel, deleteModel, look, loadModels, shortName, unloadModel, watchLibrary, canChat } from "./library.js";
import { changeChat } from "./chats.js";
import { openDetails } from "./details.js";
import { askText, confirmDialog, openDialog, openMenu, showError } from "./dialogs.js";
import { discover } from "./discover.js";
import { fill, h, iconButton } from "./dom.js";
import { capabilitiesOf, capabilityTexts, fitOf, fitText, loadOf, sizesOf, stateText, untilText, withShare } from "./facts.js";
import { command } from "./keys.js";
import { sync } from "./lists.js";
import { createForm, modelfileOf } from "./modelfile.js";
import { store } from "./state.js";
import { tabs } from "./tabs.js";
import { ago, bytes, number, t } from "./texts.js";

export function setup() {
  watchLibrary();
  command({ id: "models", title: t("models"), run: () => openModels() });
  command({ id: "models.get", title: t("getModel"), run: () => openModels("get") });
  command({ id: "models.running", title: t("modelsRunning"), run: () => openModels("running") });
  command({ id: "models.create", title: t("createModel"), run: () => openModels("create") });
}

/**
 * Open the dialog.
 * @param {"installed" | "get" | "running" | "create"} [tab]
 * @param {{name?: string, modelfile?: string}} [draft] what the form for creating begins with
 */
export function openModels(tab = "installed", draft = {}) {
  /** @type {(() => void)[]} */
  const ends = [];
  const onend = (/** @type {() => void} */ end) => void ends.push(end);
  loadModels();
  look();
  const all = [
    { id: "installed", title: t("modelsInstalled"), make: () => installedPanel(onend, close) },
    { id: "get", title: t("modelsGet"), make: () => discover(onend) },
    { id: "running", title: t("modelsRunning"), make: () => runningPanel(onend) },
    { id: "create", title: t("modelsCreate"), make: () => createForm(onend, draft) },
  ];
  const allowed = store.now.jobs === null ? all.filter(({ id }) => id === "installed" || id === "running") : all;
  const { element } = tabs(t("models"), allowed, allowed.some(({ id }) => id === tab) ? tab : "installed");
  const dialog = openDialog({ title: t("models"), class: "models", content: element, onclose: () => ends.forEach((end) => end()) });
  function close() {
    dialog.close();
  }
}

// ---- installed ------------------------------------------------------------------------------------------------------

/** @param {(end: () => void) => void} onend @param {() => void} close */
function installedPanel(onend, close) {
  const filter = h("input", { type: "search", placeholder: t("filterModels"), "aria-label": t("filterModels"), dir: "auto", maxlength: 200, autofocus: true });
  const list = h("ul", { class: "model-list", "aria-label": t("modelsInstalled") });
  const note = h("p", { class: "note" });
  const draw = () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    const models = store.now.models ?? [];
    const found = models.filter((model) => words.every((word) => `${model.name} ${model.details.family}`.toLowerCase().includes(word)));
    sync(list, found, (model) => model.name, (model) => modelRow(model.name, close));
    const size = models.reduce((sum, model) => sum + model.size, 0);
    note.textContent = models.length ? t("modelsTotal", { n: models.length, size: bytes(size) }) : store.now.models ? t("noModels") : t("loadingList");
  };
  filter.addEventListener("input", draw);
  onend(store.watch(["models", "running", "memory"], draw));
  draw();
  return [filter, list, note];
}

/** @param {string} name @param {() => void} close @returns {import("./lists.js").Row<ListedModel>} */
function modelRow(name, close) {
  const dot = h("span", { "aria-hidden": "true" });
  const facts = h("span", { class: "facts" });
  const badges = h("span", { class: "badges" });
  const state = h("span");
  const title = h("button", { type: "button", class: "title link", on: { click: () => openDetails(name) } }, h("span", { dir: "auto" }, shortName(name)));
  const more = iconButton("more", t("modelActions", { name: shortName(name) }), () => openMenu(more, modelItems(name, close)));
  const element = h("li", null, dot, title, more, facts, badges, state);
  return {
    element,
    update(model) {
      const { running, memory } = store.now;
      const fit = fitOf(model, running, memory);
      dot.className = `dot ${fit}`;
      facts.textContent = [...sizesOf(model), fit === "fits" ? t("fits") : "", t("changed", { time: ago(model.modified_at) })].filter(Boolean).join(" · ");
      fill(badges, capabilityTexts(capabilitiesOf(model)).map((text) => h("span", { class: "badge" }, text)));
      state.className = `state-text ${fit}`;
      state.textContent = stateText(fit, model.memory ?? 0, memory);
      element.title = fitText(fit, model.memory ?? 0, memory);
    },
  };
}

/** @param {string} name @param {() => void} close */
function modelItems(name, close) {
  const model = store.now.models?.find((each) => each.name === name);
  const isLoaded = store.now.running.some((each) => each.name === name);
  const mayManage = store.now.jobs !== null;
  return [
    Boolean(model && canChat(model)) && { title: t("useInChat"), icon: "send", run: () => { close(); changeChat({ model: name }); } },
    { title: t("details"), icon: "details", run: () => openDetails(name) },
    isLoaded ? { title: t("unload"), icon: "stop", run: () => unloadModel(name) } : { title: t("load"), icon: "continue", run: () => loadModel(name) },
    mayManage && { title: t("createFrom"), icon: "plus", run: () => createFrom(name, close) },
    mayManage && { title: t("copyModel"), icon: "copy", run: () => askCopy(name) },
    mayManage && { title: t("deleteModel"), icon: "delete", danger: true, run: () => askDelete(name) },
  ];
}

/** @param {string} name @param {() => void} close */
async function createFrom(name, close) {
  try {
    const modelfile = await modelfileOf(name);
    close();
    openModels("create", { modelfile });
  } catch (error) {
    showError(error);
  }
}

/** @param {string} name */
async function askCopy(name) {
  const to = await askText(t("copyModel"), { label: t("newName"), value: `${shortName(name)}-copy`, action: t("copy") });
  if (to) await copyModel(name, to);
}

/** Ask whether a model is to be deleted, and do it. @param {string} name */
async function askDelete(name) {
  if (await confirmDialog(t("deleteModelAsk", { name: shortName(name) }), t("deleteModelHint"), t("delete"))) await deleteModel(name);
}

// ---- running --------------------------------------------------------------------------------------------------------

/** @param {(end: () => void) => void} onend */
function runningPanel(onend) {
  const list = h("ul", { class: "model-list", "aria-label": t("modelsRunning") });
  const note = h("p", { class: "note" });
  const meter = h("div", { class: "memory" });
  const draw = () => {
    const { running, memory } = store.now;
    sync(list, running, (model) => model.name, (model) => runningRow(model.name));
    note.textContent = running.length ? "" : t("noneRunning");
    fill(meter, memory ? memoryBar(memory, running) : null);
  };
  onend(store.watch(["running", "memory"], draw));
  const ticking = setInterval(draw, 1000);
  onend(() => clearInterval(ticking));
  draw();
  return [meter, list, note];
}

/** @param {Memory} memory @param {RunningModel[]} running */
function memoryBar({ free, total }, running) {
  const used = running.reduce((sum, model) => sum + model.size, 0);
  const text = t("memoryIs", { free: bytes(free), total: bytes(total), models: bytes(used) });
  return h("label", null, h("span", null, text), h("meter", { min: 0, max: total, value: total - free, high: total * 0.9, optimum: 0 }));
}

/** @param {string} name @returns {import("./lists.js").Row<RunningModel>} */
function runningRow(name) {
  const dot = h("span", { "aria-hidden": "true" });
  const facts = h("span", { class: "facts" });
  const state = h("span", { class: "state-text" });
  const bar = h("progress", { max: 1, "aria-label": t("stageLoading") });
  const unload = h("button", { type: "button", class: "quiet", "aria-label": t("unloadName", { name: shortName(name) }), on: { click: () => unloadModel(name) } }, t("unload"));
  const title = h("button", { type: "button", class: "title link", on: { click: () => openDetails(name) } }, h("span", { dir: "auto" }, shortName(name)));
  const element = h("li", null, dot, title, unload, facts, bar, state);
  return {
    element,
    update(model) {
      const status = model.status ?? "ready";
      dot.className = `dot ${status}`;
      facts.textContent = [
        t("takes", { size: bytes(model.size) }),
        model.size_vram ? t("onGpu", { share: Math.round((100 * model.size_vram) / model.size) }) : t("onCpu"),
        t("contextOf", { tokens: number(model.context_length ?? 0) }),
      ].join(" · ");
      bar.hidden = status !== "starting";
      const load = loadOf(model.stage, model.fraction);
      if (load.share === undefined) bar.removeAttribute("value");
      else bar.value = load.share;
      const requests = model.in_flight ? t("inUse", { n: model.in_flight }) : t("unloadsIn", { time: untilText(model.expires_at, Date.now()) });
      state.textContent = status === "starting" ? withShare(load) : status === "stopping" ? t("fitStopping") : requests;
      unload.disabled = status === "stopping";
    },
  };
}
