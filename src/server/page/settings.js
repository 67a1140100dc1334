// Values of the settings fields.

import { byId } from "./dom.js";
import { store, stored } from "./storage.js";

const IDS = ["kv-budget", "policy", "temperature", "top-p", "max-tokens"];

const number = (id) => byId(id).value === "" ? undefined : Number(byId(id).value);
export const settings = () => ({
  kv_budget: number("kv-budget"), policy: byId("policy").value.trim() || undefined, temperature: number("temperature"),
  top_p: number("top-p"), max_tokens: number("max-tokens"),
});

for (const id of IDS) {
  byId(id).value = stored("settings")?.[id] ?? "";
  byId(id).addEventListener("change", () => store("settings", Object.fromEntries(IDS.map((s) => [s, byId(s).value]))));
}
