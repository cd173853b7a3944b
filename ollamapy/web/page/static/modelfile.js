// Creating a model from a Modelfile: an editor whose text the daemon checks while it is written.

import { post } from "./api.js";
import { delayed, fill, h, icon } from "./dom.js";
import { jobsView } from "./jobs.js";
import { create, installed, shortName } from "./library.js";
import { store } from "./state.js";
import { t } from "./texts.js";

const QUANTIZATIONS = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q3_K_M", "Q2_K"];

/** The Modelfile of an installed model, which names that model instead of its files. @param {string} name */
export async function modelfileOf(name) {
  const { modelfile } = await post("/api/show", { model: name });
  const lines = modelfile.split("\n");
  const first = lines.findIndex((/** @type {string} */ line) => line.startsWith("FROM "));
  const rest = lines.slice(first + 1).filter((/** @type {string} */ line) => !/^(FROM|ADAPTER) /.test(line));
  return [`FROM ${shortName(name)}`, ...rest].join("\n").trimEnd() + "\n";
}

/** @param {(end: () => void) => void} onend @param {{name?: string, modelfile?: string}} draft */
export function createForm(onend, { name = "", modelfile = "" }) {
  const title = h("input", { value: name, maxlength: 200, dir: "auto", autocomplete: "off", spellcheck: "false", required: true, placeholder: "my-model", autofocus: true });
  const editor = h("textarea", { value: modelfile || template(), rows: 14, class: "mono", dir: "ltr", spellcheck: "false", autocapitalize: "off", "aria-describedby": "findings" });
  const quantize = h("select", null, h("option", { value: "" }, t("quantizeNot")), QUANTIZATIONS.map((each) => h("option", { value: each }, each)));
  const findings = h("ul", { id: "findings", class: "findings" });
  const fault = h("p", { class: "error", role: "alert", hidden: true });
  const button = h("button", { class: "primary" }, t("createModel"));
  let checked = 0;

  const check = async () => {
    const mine = ++checked;
    const found = await post("/api/lint", { modelfile: editor.value }).catch(() => ({ findings: [] }));
    if (mine !== checked) return;
    fill(findings, found.findings.map((/** @type {Finding} */ each) => findingView(each, editor)));
    button.disabled = found.findings.some((/** @type {Finding} */ each) => each.severity === "error");
  };
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    fault.hidden = true;
    try {
      await create(title.value.trim(), editor.value, quantize.value);
    } catch (error) {
      fault.hidden = false;
      fill(fault, icon("warning"), /** @type {Error} */ (error).message);
    }
  };
  const warn = h("p", { class: "note", role: "status" });
  title.addEventListener("input", () => (warn.textContent = installed(title.value.trim()) ? t("replacesModel") : ""));
  editor.addEventListener("input", delayed(check, 400));
  onend(() => ++checked);
  check();
  return [
    h("form", { class: "create-form", on: { submit } },
      h("label", { class: "field" }, t("newName"), title), warn,
      h("label", { class: "field" }, "Modelfile", editor),
      h("div", { role: "status" }, findings),
      h("label", { class: "field" }, t("quantize"), quantize),
      fault,
      h("footer", null, button)),
    jobsView(onend, (job) => job.kind === "create"),
  ];
}

/** What an empty editor begins with. */
function template() {
  const { model } = store.now.chat;
  return `FROM ${model ? shortName(model) : "MODEL"}\nSYSTEM """You are a helpful assistant."""\nPARAMETER temperature 0.7\n`;
}

/** A finding; a click goes to its place. @param {Finding} finding @param {HTMLTextAreaElement} editor */
function findingView({ line, column, severity, message }, editor) {
  const go = () => {
    const lines = editor.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
    editor.focus();
    editor.setSelectionRange(start + column - 1, start + (lines[line - 1]?.length ?? 0));
  };
  return h("li", { class: severity }, h("button", { type: "button", class: "link", on: { click: go } }, icon("warning"),
    h("span", null, h("b", null, t("lineOf", { n: String(line) })), " ", message)));
}
