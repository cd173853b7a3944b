// The settings of a chat: system message, options, form of answers, thinking, keep-alive; and presets of them, which the daemon keeps.

import { ask, get, open } from "./api.js";
import { changeChat, opened } from "./chats.js";
import { askText, confirmDialog, openDialog, showError, toast } from "./dialogs.js";
import { delayed, fill, h, icon } from "./dom.js";
import { parseSchema } from "./jsonschema.js";
import { command, paletteSource } from "./keys.js";
import { shortName } from "./library.js";
import { optionFields } from "./optionfields.js";
import { store } from "./state.js";
import { t } from "./texts.js";

/** @typedef {Pick<Chat, "system" | "options" | "format" | "think" | "keep_alive">} Settings */

const KEEP_ALIVE = ["0", "5m", "30m", "1h", "24h", "-1"];
const EXAMPLE = '{\n  "type": "object",\n  "properties": {\n    "answer": { "type": "string" }\n  },\n  "required": ["answer"]\n}';

export function setup() {
  command({ id: "settings", title: t("chatSettings"), keys: "mod+;", run: () => openSettings() });
  paletteSource(presetEntries);
}

/** Commands that apply a preset. @param {string} query */
async function presetEntries(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const presets = await loadPresets();
  return presets.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)))
    .map((preset) => ({ title: t("usePreset", { name: preset.name }), run: () => void changeChat(settingsOf(preset, store.now.chat)) }));
}

/**
 * Open the settings of the open chat, or of what else has such settings.
 * @param {{model: string, values: Settings, save: (values: Settings) => void} | Event} [target]
 */
export async function openSettings(target) {
  const content = h("div", null, h("p", { class: "note" }, h("span", { class: "spinner", "aria-hidden": "true" }), t("loadingList")));
  const dialog = openDialog({ title: t("chatSettings"), class: "settings", content });
  await opened();
  const { chat } = store.now;
  const given = target && "model" in target ? target : { model: chat.model, values: chat, save: (/** @type {Settings} */ values) => void changeChat(values) };
  const known = given.model ? await get(`/api/options?model=${encodeURIComponent(given.model)}`).catch(() => null) : null;
  const presets = await loadPresets();
  if (!dialog.isConnected) return;
  fill(content, form(given.model, given.values, known, presets, (values) => {
    dialog.close();
    given.save(values);
  }, () => dialog.close()));
  content.querySelector("textarea")?.focus();
}

/**
 * @param {string} model
 * @param {Settings} values
 * @param {ModelOptions | null} known null: the model is not installed
 * @param {Preset[]} presets
 * @param {(values: Settings) => void} save
 * @param {() => void} cancel
 */
function form(model, values, known, presets, save, cancel) {
  const system = h("textarea", { rows: 4, dir: "auto", value: values.system, placeholder: known?.system ?? "" });
  const thinking = thinkingField(values.think, known);
  const keepAlive = keepAliveField(values.keep_alive);
  const format = formatField(values.format);
  const options = known ? optionFields(known.options, values.options) : { fields: [], first: 0 };
  const read = () => ({
    system: system.value, think: thinking.value(), keep_alive: keepAlive.value(), format: format.value(),
    options: { ...others(values.options, options.fields), ...Object.fromEntries(options.fields.map((field) => [field.name, field.value()]).filter(([, value]) => value !== undefined)) },
  });
  const write = (/** @type {Settings} */ next) => {
    system.value = next.system;
    thinking.set(next.think);
    keepAlive.set(next.keep_alive);
    format.set(next.format);
    for (const field of options.fields) field.set(next.options[field.name]);
  };
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    const found = attempt(read);
    if (found) save(found);
  };
  return h("form", { class: "settings-form", novalidate: true, on: { submit } },
    presetRow(presets, () => attempt(read), write),
    h("label", { class: "field" }, t("systemMessage"), system),
    thinking.element,
    format.element,
    keepAlive.element,
    known ? h("fieldset", { class: "options" }, h("legend", null, t("optionsOf", { name: shortName(model) })), options.fields.slice(0, options.first).map((field) => field.element)) : h("p", { class: "note" }, t("optionsUnknown")),
    known ? h("details", { class: "options" }, h("summary", null, t("moreOptions")), options.fields.slice(options.first).map((field) => field.element)) : null,
    h("footer", null, h("button", { type: "button", on: { click: cancel } }, t("cancel")), h("button", { class: "primary" }, t("save"))));
}

/** What reading the form gives; null if a field has said what is wrong with it. @param {() => Settings} read */
function attempt(read) {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** Options that no field shows: of another model, say. @param {Record<string, any>} values @param {{name: string}[]} fields */
function others(values, fields) {
  return Object.fromEntries(Object.entries(values).filter(([name]) => fields.every((field) => field.name !== name)));
}

// ---- fields ---------------------------------------------------------------------------------------------------------

/** @param {boolean | string | null} value @param {ModelOptions | null} known */
function thinkingField(value, known) {
  /** @type {[string, string][]} */
  const choices = [["", t("thinkDefault")], ["true", t("thinkOn")], ["false", t("thinkOff")]];
  const levels = (known?.think_levels ?? []).map((/** @type {string} */ level) => /** @type {[string, string]} */ ([level, t(`think_${level}`)]));
  const select = h("select", null, [...choices, ...levels].map(([id, title]) => h("option", { value: id }, title)));
  const set = (/** @type {boolean | string | null} */ next) => {
    const text = next === null || next === undefined ? "" : String(next);
    if (![...select.options].some((option) => option.value === text)) select.append(h("option", { value: text }, text));
    select.value = text;
  };
  set(value);
  const element = h("label", { class: "field", hidden: known !== null && !levels.length && value === null }, t("thinking"), select);
  return { element, set, value: () => ({ "": null, true: true, false: false })[select.value] ?? (select.value || null) };
}

/** @param {string | number | null} value */
function keepAliveField(value) {
  const titles = { "0": t("keep0"), "5m": t("keep5m"), "30m": t("keep30m"), "1h": t("keep1h"), "24h": t("keep24h"), "-1": t("keepForever") };
  const select = h("select", null, h("option", { value: "" }, t("keepDefault")), KEEP_ALIVE.map((each) => h("option", { value: each }, titles[/** @type {"0"} */ (each)])));
  const set = (/** @type {string | number | null} */ next) => {
    const text = next === null || next === undefined ? "" : String(next);
    if (text && !KEEP_ALIVE.includes(text) && ![...select.options].some((option) => option.value === text)) select.append(h("option", { value: text }, text));
    select.value = text;
  };
  set(value);
  return { element: h("label", { class: "field" }, t("keepAlive"), select), set, value: () => (select.value === "" ? null : /^-?\d+$/.test(select.value) ? Number(select.value) : select.value) };
}

/** @param {any} value null, "json" or a schema */
function formatField(value) {
  const select = h("select", null, h("option", { value: "" }, t("formatText")), h("option", { value: "json" }, t("formatJson")), h("option", { value: "schema" }, t("formatSchema")));
  const area = h("textarea", { rows: 8, class: "mono", dir: "ltr", spellcheck: "false", "aria-label": t("formatSchema"), "aria-describedby": "schema-fault" });
  const fault = h("p", { id: "schema-fault", role: "status", class: "note" });
  const holder = h("div", { class: "schema" }, area, fault);
  const check = () => {
    const wrong = select.value === "schema" ? parseSchema(area.value).fault : "";
    area.setAttribute("aria-invalid", String(Boolean(wrong)));
    fault.className = wrong ? "error" : "note";
    fill(fault, wrong ? [icon("warning"), wrong] : t("schemaGood"));
    return wrong;
  };
  const draw = () => {
    holder.hidden = select.value !== "schema";
    if (!holder.hidden && !area.value) area.value = EXAMPLE;
    check();
  };
  const set = (/** @type {any} */ next) => {
    select.value = !next ? "" : next === "json" ? "json" : "schema";
    if (select.value === "schema") area.value = JSON.stringify(next, null, 2);
    draw();
  };
  select.addEventListener("change", draw);
  area.addEventListener("input", delayed(check, 300));
  set(value);
  return {
    element: h("div", null, h("label", { class: "field" }, t("format"), select), holder),
    set,
    value() {
      if (select.value !== "schema") return select.value || null;
      if (check()) {
        area.focus();
        throw new RangeError("format");
      }
      return parseSchema(area.value).schema;
    },
  };
}

// ---- presets --------------------------------------------------------------------------------------------------------

/** @returns {Promise<Preset[]>} */
async function loadPresets() {
  return (await get("/api/presets").catch(() => ({ presets: [] }))).presets;
}

/** A preset's settings; what it does not set is as in no preset. @param {Preset} preset @param {Settings} before @returns {Settings} */
function settingsOf({ system, options, format, think, keep_alive }, before) {
  return { system: system ?? before.system, options: options ?? {}, format: format ?? null, think: think ?? null, keep_alive: keep_alive ?? null };
}

/** @param {Preset[]} presets @param {() => Settings | null} read @param {(values: Settings) => void} write */
function presetRow(presets, read, write) {
  const select = h("select", { "aria-label": t("preset") });
  const remove = h("button", { type: "button", class: "quiet danger", on: { click: removePreset } }, t("delete"));
  const draw = (/** @type {string} */ current) => {
    fill(select, h("option", { value: "" }, presets.length ? t("choosePreset") : t("noPresets")), presets.map(({ name }) => h("option", { value: name }, name)));
    select.value = current;
    select.disabled = !presets.length;
    remove.hidden = !current;
  };
  select.addEventListener("change", () => {
    const preset = presets.find(({ name }) => name === select.value);
    remove.hidden = !preset;
    const now = preset && read();
    if (preset && now) write(settingsOf(preset, now));
  });

  async function savePreset() {
    const values = read();
    const name = values && (await askText(t("savePreset"), { label: t("presetName"), value: select.value, maxlength: 100, suggestions: presets.map((each) => each.name) }));
    if (!values || !name) return;
    try {
      const kept = await ask("PUT", `/api/presets/${encodeURIComponent(name)}`, { body: values });
      presets = [...presets.filter((each) => each.name !== kept.name), kept].sort((a, b) => a.name.localeCompare(b.name));
      draw(kept.name);
      toast(t("presetSaved", { name: kept.name }));
    } catch (error) {
      showError(error);
    }
  }
  async function removePreset() {
    const name = select.value;
    if (!(await confirmDialog(t("deletePreset", { name }), t("deletePresetHint"), t("delete")))) return;
    try {
      await open("DELETE", `/api/presets/${encodeURIComponent(name)}`);
    } catch (error) {
      return showError(error);
    }
    presets = presets.filter((each) => each.name !== name);
    draw("");
  }
  draw("");
  return h("div", { class: "preset-row" }, h("label", { class: "field" }, t("preset"), select), h("button", { type: "button", class: "quiet", on: { click: savePreset } }, t("savePreset")), remove);
}
