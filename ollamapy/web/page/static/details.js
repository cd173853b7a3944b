// Everything about one model: what /api/show tells.

import { post } from "./api.js";
import { copyText } from "./blocks.js";
import { openDialog } from "./dialogs.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { capabilityTexts } from "./facts.js";
import { installed, shortName } from "./library.js";
import { plain, withFewMarks } from "./plain.js";
import { bytes, number, t } from "./texts.js";

const MOST_TENSORS = 2000; // rows
const LONG = 400; // rows of a table that is made only when it is opened
const MOST_SHOWN = 2000; // characters of a value in a table

/** Open the details of an installed model. @param {string} name */
export async function openDetails(name) {
  const content = h("div", { class: "details" }, h("p", { class: "note" }, h("span", { class: "spinner", "aria-hidden": "true" }), t("loadingList")));
  openDialog({ title: shortName(name), class: "models", content });
  try {
    fill(content, sections(name, await post("/api/show", { model: name })));
  } catch (error) {
    fill(content, h("p", { class: "error", role: "alert" }, icon("warning"), /** @type {Error} */ (error).message));
  }
}

/** @param {string} name @param {any} shown */
function sections(name, shown) {
  const { details, model_info: info, projector_info: projector, tensors = [], messages = [] } = shown;
  const model = installed(name);
  const length = (/** @type {string} */ key) => info[`${info["general.architecture"]}.${key}`];
  return [
    table(t("details"), [
      [t("architecture"), details.family],
      [t("parameters"), details.parameter_size],
      [t("quantization"), details.quantization_level],
      [t("contextTrained"), count(length("context_length"))],
      [t("contextNow"), count(shown.effective_context_length)],
      [t("embeddingLength"), count(length("embedding_length"))],
      [t("size"), model ? bytes(model.size) : ""],
      [t("memoryNeeded"), model?.memory ? bytes(model.memory) : ""],
      [t("capabilities"), capabilityTexts(shown.capabilities).join(", ") || t("canText")],
      [t("baseModel"), details.parent_model],
      [t("requires"), shown.requires],
      [t("digest"), model?.digest],
    ]),
    shown.system ? text(t("systemMessage"), shown.system, true) : null,
    shown.parameters ? text(t("modelParameters"), shown.parameters, true) : null,
    messages.length ? text(t("modelMessages"), messages.map((/** @type {any} */ each) => `${each.role}: ${each.content}`).join("\n"), true) : null,
    shown.template ? text(t("template"), shown.template) : null,
    text("Modelfile", shown.modelfile),
    shown.license ? text(t("licence"), shown.license) : null,
    table(t("metadata"), Object.entries(info).map(([key, value]) => [key, shownValue(value)]), false),
    projector ? table(t("projector"), Object.entries(projector).map(([key, value]) => [key, shownValue(value)]), false) : null,
    tensors.length ? table(t("tensors", { n: tensors.length }), tensors.slice(0, MOST_TENSORS).map((/** @type {any} */ each) => [each.name, `${each.type} ${each.shape.join(" × ")}`]), false) : null,
  ];
}

/** @param {number | undefined} value */
const count = (value) => (value ? number(value) : "");

/** @param {any} value */
function shownValue(value) {
  if (Array.isArray(value)) return value.length > 8 ? `${value.slice(0, 8).join(", ")} … (${number(value.length)})` : value.join(", ");
  const text = value === null ? "" : String(value);
  return withFewMarks(text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)} …` : text);
}

/** A table of names and values, without those that are empty. @param {string} title @param {any[][]} rows @param {boolean} [isOpen] */
function table(title, rows, isOpen = true) {
  const filled = rows.filter(([, value]) => value !== undefined && value !== null && value !== "");
  const make = () => h("table", { class: "facts-table" }, h("tbody", null, filled.map(([name, value]) => h("tr", null, h("th", { scope: "row" }, name), h("td", { dir: "auto" }, value)))));
  return folded(title, make, isOpen, filled.length <= LONG);
}

/** @param {string} title @param {string} value @param {boolean} [isOpen] */
function text(title, value, isOpen = false) {
  return folded(title, () => {
    const button = iconButton("copy", t("copyText"), () => copyText(value, button));
    return h("div", { class: "raw" }, button, h("div", { class: "raw-text", tabindex: 0, role: "group", "aria-label": title }, plain(value)));
  }, isOpen);
}

/**
 * A part that can be folded. Its content is there at once, so that the browser's search finds it, or when it is opened.
 * @param {string} title @param {() => HTMLElement} make @param {boolean} isOpen @param {boolean} [atOnce]
 */
function folded(title, make, isOpen, atOnce = true) {
  const details = h("details", { open: isOpen, on: { toggle: () => details.open && details.childElementCount === 1 && details.append(make()) } }, h("summary", null, h("h3", null, title)));
  if (isOpen || atOnce) details.append(make());
  return details;
}
