// The fields of a model's options: a number with its range, a choice, a list of texts. An empty field means the default.

import { h, iconButton } from "./dom.js";
import { number, t } from "./texts.js";

/** The options that are shown first, in this order; the others follow by themselves. */
const FIRST = ["temperature", "top_p", "top_k", "min_p", "num_ctx", "num_predict", "repeat_penalty", "seed", "stop"];
const DECIMAL_STEP = 0.05;

/** @typedef {{name: string, element: HTMLElement, value: () => any, set: (value: any) => void}} OptionField `value()` is undefined where nothing is set; it throws a RangeError for what cannot be one */

/**
 * The fields of all options, in the order in which they are shown, and how many of them come first.
 * @param {OptionInfo[]} infos
 * @param {Record<string, any>} values
 * @returns {{fields: OptionField[], first: number}}
 */
export function optionFields(infos, values) {
  const order = (/** @type {OptionInfo} */ { name }) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  const fields = [...infos].sort((a, b) => order(a) - order(b)).map((info) => {
    const field = fieldOf(info);
    field.set(values[info.name]);
    return field;
  });
  return { fields, first: FIRST.length };
}

/** @param {OptionInfo} info @returns {OptionField} */
function fieldOf(info) {
  if (info.type === "boolean") return choiceField(info, ["true", "false"], (text) => text === "true");
  if (info.choices?.length) return choiceField(info, info.choices, (text) => text);
  return info.type === "array" ? textsField(info) : numberField(info);
}

/** @param {OptionInfo} info */
function hintOf(info) {
  const { default: usual, minimum, maximum, is_model_default, when } = info;
  const range = minimum !== undefined && maximum !== undefined ? t("optionRange", { least: number(minimum), most: number(maximum) })
    : minimum !== undefined ? t("optionAtLeast", { least: number(minimum) }) : "";
  const standard = usual === null || usual === undefined ? t("optionAutomatic") : t(is_model_default ? "optionOfModel" : "optionDefault", { value: shown(usual) });
  return [standard, range, when === "load" ? t("optionReloads") : ""].filter(Boolean).join(" · ");
}

/** @param {any} value */
function shown(value) {
  if (Array.isArray(value)) return value.length ? value.map((each) => JSON.stringify(each)).join(" ") : t("optionNone");
  return typeof value === "number" ? String(value) : String(value);
}

/** @param {OptionInfo} info @param {HTMLElement} control @param {HTMLElement} [more] @param {() => void} [clear] */
function frame(info, control, more, clear) {
  const id = `option-${info.name}`;
  control.id = id;
  control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "option" },
    h("label", { for: id }, t(`option_${info.name}`), h("code", null, info.name)),
    h("div", { class: "option-row" }, control, more ?? null, iconButton("undo", t("optionReset", { name: t(`option_${info.name}`) }), () => clear?.())),
    h("small", { id: `${id}-hint` }, hintOf(info)));
}

/** @param {OptionInfo} info @returns {OptionField} */
function numberField(info) {
  const { minimum, maximum, type, name } = info;
  const usual = typeof info.default === "number" ? info.default : null;
  const step = type === "integer" ? 1 : DECIMAL_STEP;
  const input = h("input", { type: "number", step: type === "integer" ? 1 : "any", min: minimum ?? null, max: maximum ?? null, placeholder: usual === null ? "" : String(usual), inputmode: type === "integer" ? "numeric" : "decimal" });
  const top = name === "temperature" || name === "repeat_penalty" ? 2 : maximum;
  const hasSlider = minimum !== undefined && top !== undefined && top - minimum <= 4;
  const slider = hasSlider ? h("input", { type: "range", min: minimum, max: top, step, "aria-label": t(`option_${name}`), tabindex: -1 }) : undefined;
  const follow = () => {
    if (slider) slider.value = input.value === "" ? String(usual ?? minimum) : input.value;
  };
  input.addEventListener("input", follow);
  slider?.addEventListener("input", () => (input.value = slider.value));
  const set = (/** @type {any} */ value) => {
    input.value = typeof value === "number" ? String(value) : "";
    follow();
  };
  return {
    name, set,
    element: frame(info, input, slider, () => set(undefined)),
    value() {
      if (!input.validity.valid) {
        input.closest("details")?.setAttribute("open", "");
        input.reportValidity();
        throw new RangeError(name);
      }
      return input.value === "" ? undefined : input.valueAsNumber;
    },
  };
}

/** @param {OptionInfo} info @param {readonly string[]} choices @param {(text: string) => any} parse @returns {OptionField} */
function choiceField(info, choices, parse) {
  const usual = info.default === null || info.default === undefined ? t("optionAutomatic") : t("optionDefault", { value: shown(info.default) });
  const select = h("select", null, h("option", { value: "" }, usual), choices.map((choice) => h("option", { value: choice }, choice)));
  const set = (/** @type {any} */ value) => (select.value = value === undefined || value === null ? "" : String(value));
  return { name: info.name, set, element: frame(info, select, undefined, () => set(undefined)), value: () => (select.value === "" ? undefined : parse(select.value)) };
}

/** Texts, one a line; a line break within one is written as \n. @param {OptionInfo} info @returns {OptionField} */
function textsField(info) {
  const area = h("textarea", { rows: 2, class: "mono", dir: "auto", spellcheck: "false", placeholder: info.default?.join("\n") ?? "" });
  const set = (/** @type {any} */ value) => (area.value = (value ?? []).map((/** @type {string} */ each) => each.replaceAll("\n", "\\n")).join("\n"));
  return {
    name: info.name, set,
    element: frame(info, area, undefined, () => set(undefined)),
    value() {
      const texts = area.value.split("\n").filter(Boolean).map((each) => each.replaceAll("\\n", "\n"));
      return texts.length ? texts : undefined;
    },
  };
}
