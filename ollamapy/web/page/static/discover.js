// Models that can be pulled: by name, from the catalogue, and from the hub.

import { get } from "./api.js";
import { delayed, fill, h, icon } from "./dom.js";
import { jobsView } from "./jobs.js";
import { installed, pull, shortName } from "./library.js";
import { store } from "./state.js";
import { bytes, t } from "./texts.js";
import { tokens } from "./facts.js";

const SHORTEST = 2; // characters that the hub is asked for
const SHOWN = 8; // families of the catalogue, until all are wanted

/** @param {(end: () => void) => void} onend */
export function discover(onend) {
  const input = h("input", { type: "search", name: "q", placeholder: t("findModels"), "aria-label": t("findModels"), dir: "auto", maxlength: 300, autocomplete: "off", spellcheck: "false", autofocus: true });
  const button = h("button", { class: "primary", disabled: true }, t("pull"));
  const form = h("form", { class: "pull-form", on: { submit } }, input, button);
  const catalogue = section(t("inCatalogue"));
  const hub = section(t("onHub"));
  let abort = new AbortController();

  /** @param {Event} event */
  function submit(event) {
    event.preventDefault();
    const name = input.value.trim();
    if (name) pull(name);
  }
  const search = () => {
    abort.abort();
    abort = new AbortController();
    const text = input.value.trim();
    searchCatalogue(catalogue, text, abort.signal);
    if (text.length >= SHORTEST) later();
    else fill(hub.content, h("p", { class: "note" }, t("hubHint")));
  };
  const later = delayed(() => searchHub(hub, input.value.trim(), abort.signal), 500);
  input.addEventListener("input", () => (button.disabled = !input.value.trim()));
  input.addEventListener("input", delayed(search, 150));
  onend(() => abort.abort());
  onend(store.watch(["models"], () => catalogue.redraw()));
  search();
  return [form, h("p", { class: "note" }, t("pullHint")), jobsView(onend), catalogue.element, hub.element];
}

/** @param {string} title */
function section(title) {
  const content = h("div");
  return { element: h("section", { class: "offers" }, h("h3", null, title), content), content, redraw: () => {} };
}

/** @typedef {ReturnType<typeof section>} Section */

// ---- the catalogue --------------------------------------------------------------------------------------------------

/** @param {Section} section @param {string} text @param {AbortSignal} signal */
async function searchCatalogue(section, text, signal) {
  try {
    const { families } = await get(`/api/catalogue?q=${encodeURIComponent(text)}`, signal);
    delete section.content.dataset.all;
    section.redraw = () => showFamilies(section, families, Boolean(text));
    section.redraw();
  } catch (error) {
    showFault(section, error);
  }
}

/** @param {Section} section @param {any[]} families @param {boolean} isSearch */
function showFamilies({ content }, families, isSearch) {
  const open = new Set([...content.querySelectorAll("details[open]")].map((each) => /** @type {HTMLElement} */ (each).dataset.name));
  const view = (/** @type {any} */ family) => familyView(family, open.has(family.name) || (isSearch && families.length === 1));
  const all = content.dataset.all === "true";
  const more = h("button", { type: "button", class: "quiet more", on: { click: showAll } }, t("moreFamilies", { n: families.length - SHOWN }));
  fill(content, families.slice(0, all ? undefined : SHOWN).map(view), families.length > SHOWN && !all ? more : null,
    families.length ? null : h("p", { class: "note" }, t("nothingFound")));

  function showAll() {
    content.dataset.all = "true";
    more.replaceWith(...families.slice(SHOWN).map(view));
    content.querySelectorAll("summary")[SHOWN]?.focus();
  }
}

/** @param {any} family @param {boolean} open */
function familyView({ name, about, models }, open) {
  const sizes = models.map((/** @type {any} */ model) => model.size).filter(Boolean);
  const span = sizes.length ? [...new Set([bytes(Math.min(...sizes)), bytes(Math.max(...sizes))])].join(" – ") : "";
  const uses = [...new Set(models.map((/** @type {any} */ model) => model.use).filter((/** @type {string} */ use) => use && use !== "chat"))];
  const fits = models.some((/** @type {any} */ model) => model.fits);
  const list = h("ul", { class: "model-list" });
  const fillList = () => fill(list, models.map(entryView));
  const details = h("details", { data: { name }, open, on: { toggle: () => details.open && !list.childElementCount && fillList() } },
    h("summary", null,
      h("span", { class: "title" }, name),
      h("span", { class: "facts" }, [t("sizesOf", { n: models.length }), span].filter(Boolean).join(" · ")),
      h("span", { class: "badges" }, uses.map((use) => h("span", { class: "badge" }, String(use))), fits ? null : h("span", { class: "badge never" }, t("tooLarge"))),
      h("span", { class: "about", dir: "auto" }, about)),
    list);
  if (open) fillList();
  return details;
}

/** @param {any} entry of the catalogue */
function entryView({ name, size, size_is_exact, parameter_size, quantization, context, licence, fits, note, kind }) {
  const facts = [parameter_size, quantization, size ? `${size_is_exact ? "" : "~"}${bytes(size)}` : "", context ? t("contextOf", { tokens: tokens(context) }) : "", licence];
  return h("li", null,
    h("span", { class: ["dot", fits ? "fits" : "never"], "aria-hidden": "true" }),
    h("span", { class: "title", dir: "auto" }, shortName(name)),
    kind === "builtin" ? h("span", { class: "badge" }, t("builtin")) : pullButton(name),
    h("span", { class: "facts" }, facts.filter(Boolean).join(" · ")),
    h("span", { class: ["state-text", fits ? "fits" : "never"] }, fits ? "" : t("doesNotFit")),
    note ? h("span", { class: "about", dir: "auto" }, note) : null);
}

/** @param {string} name */
function pullButton(name) {
  if (installed(name)) return h("span", { class: "badge good" }, icon("check"), t("isInstalled"));
  return h("button", { type: "button", class: "quiet", "aria-label": t("pullName", { name: shortName(name) }), on: { click: () => pull(name) } }, t("pull"));
}

// ---- the hub --------------------------------------------------------------------------------------------------------

/** @param {Section} section @param {string} text @param {AbortSignal} signal */
async function searchHub(section, text, signal) {
  if (signal.aborted) return;
  fill(section.content, h("p", { class: "note" }, h("span", { class: "spinner", "aria-hidden": "true" }), t("searching")));
  try {
    const { models } = await get(`/api/hub?q=${encodeURIComponent(text)}`, signal);
    if (!signal.aborted) fill(section.content, models.length ? models.map(repositoryView) : h("p", { class: "note" }, t("nothingFound")));
  } catch (error) {
    showFault(section, error);
  }
}

/** @param {any} model a repository of the hub */
function repositoryView({ name, repo, downloads, likes, updated_at, gated, use }) {
  const kinds = h("div", { class: "kinds" });
  const facts = [
    downloads === undefined ? "" : t("downloads", { n: downloads }),
    likes === undefined ? "" : t("likes", { n: likes }),
    updated_at ? t("updated", { date: updated_at.slice(0, 10) }) : "",
  ];
  const details = h("details", { on: { toggle: () => details.open && !kinds.childElementCount && loadKinds(kinds, name) } },
    h("summary", null,
      h("span", { class: "title", dir: "auto" }, repo),
      h("span", { class: "facts" }, facts.filter(Boolean).join(" · ")),
      h("span", { class: "badges" }, use && use !== "text-generation" ? h("span", { class: "badge" }, use) : null, gated ? h("span", { class: "badge never" }, t("gated")) : null)),
    kinds);
  return details;
}

/** Ask for the quantizations of a repository, and show them. @param {HTMLElement} holder @param {string} name */
async function loadKinds(holder, name) {
  fill(holder, h("p", { class: "note" }, h("span", { class: "spinner", "aria-hidden": "true" }), t("readingHeader")));
  try {
    const { fits, details, free } = await get(`/api/remote?model=${encodeURIComponent(name)}`);
    fill(holder,
      h("p", { class: "note" }, [details.family, details.parameter_size, t("freeMemory", { free: bytes(free) })].filter(Boolean).join(" · ")),
      h("ul", { class: "model-list" }, fits.map(kindView)));
  } catch (error) {
    fill(holder, faultView(error));
  }
}

/** @param {any} kind a quantization */
function kindView({ name, quantization, size, needs }) {
  const fitting = needs.filter((/** @type {any} */ need) => need.fits);
  const most = fitting.at(-1);
  const state = most ? t("fitsWith", { tokens: tokens(most.context), size: bytes(most.bytes) }) : t("doesNotFit");
  return h("li", null,
    h("span", { class: ["dot", most ? "fits" : "never"], "aria-hidden": "true" }),
    h("span", { class: "title" }, quantization),
    pullButton(name),
    h("span", { class: "facts" }, bytes(size)),
    h("span", { class: ["state-text", most ? "fits" : "never"] }, state));
}

/** @param {Section} section @param {any} error */
function showFault({ content }, error) {
  if (error.name !== "AbortError") fill(content, faultView(error));
}

/** @param {any} error */
function faultView(error) {
  return h("p", { class: "error", role: "alert", dir: "auto" }, icon("warning"), error.message);
}
