// The settings: fields in a dialog, kept in the browser, and sent with each request.

import { byId } from "./dom.js";
import { properties } from "./properties.js";
import { store, stored } from "./storage.js";
import { checkTools, tools } from "./tools.js";

// Fields of a request, by the ids of the fields in the dialog.
const NUMBERS = {
  "temperature": "temperature", "top-p": "top_p", "top-k": "top_k", "min-p": "min_p", "repeat-penalty": "repeat_penalty",
  "seed": "seed", "max-tokens": "max_tokens", "kv-budget": "kv_budget",
};
const IDS = [...Object.keys(NUMBERS), "policy", "thinking", "effort", "tools"];
const RANDOM_SEED = 0xffffffff;
const dialog = byId("settings"), form = byId("settings-form");

const value = (id) => byId(id).value.trim();
const numbers = () => Object.fromEntries(
  Object.entries(NUMBERS).filter(([id]) => value(id) !== "").map(([id, name]) => [name, Number(value(id))]));
export const settings = () => ({
  ...numbers(),
  policy: value("policy") || undefined,
  chat_template_kwargs: value("thinking") === "" ? undefined : { enable_thinking: value("thinking") === "on" },
  reasoning_effort: value("effort") || undefined,
  tools: tools(),
});

// Opens the dialog at the first field with a wrong value, if there is one.
export const areSettingsValid = () => {
  if (form.checkValidity()) return true;
  if (!dialog.open) dialog.showModal();
  form.reportValidity();
  return false;
};

const isChanged = () => IDS.some((id) => value(id) !== "");
const mark = () => {
  checkTools();
  byId("settings-changed").hidden = !isChanged();
  byId("settings-reset").disabled = !isChanged();
};

// Calls `then` when a setting has changed.
export const whenSet = (then) => form.addEventListener("change", then);
form.addEventListener("change", () => {
  store("settings", Object.fromEntries(IDS.map((id) => [id, byId(id).value])));
  mark();
});

// Shows the server's defaults in the empty fields.
export const showDefaults = () => {
  for (const [id, name] of Object.entries(NUMBERS)) {
    const usual = properties[name] ?? properties.sampling[name];
    if (typeof usual !== "number") continue;
    byId(id).placeholder = name === "seed" && usual === RANDOM_SEED ? "random" : String(Number(usual.toPrecision(6)));
  }
  if (properties.policy !== "") byId("policy").placeholder = properties.policy;
};

byId("settings-open").addEventListener("click", () => dialog.showModal());
byId("settings-reset").addEventListener("click", () => {
  for (const id of IDS) byId(id).value = "";
  form.dispatchEvent(new Event("change"));
  byId("settings-close").focus();
});
const kept = stored("settings");
for (const id of IDS) byId(id).value = kept?.[id] ?? "";
mark();
