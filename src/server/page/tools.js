// The list of tools in the settings.

import { byId, setText } from "./dom.js";
import { many } from "./format.js";

const EXAMPLE = [{ type: "function", function: {
  name: "get_weather", description: "The weather in a city.",
  parameters: { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } }, required: ["city"] },
} }];
const FORM = '{"type": "function", "function": {"name": "…", "parameters": {…}}}';
const field = byId("tools");

// Reads a list of tools. Returns {tools, problem}; `problem` is a sentence, or empty.
const readTools = (text) => {
  if (text.trim() === "") return { tools: [], problem: "" };
  let tools;
  try {
    tools = JSON.parse(text);
  } catch (error) {
    return { tools: [], problem: `This is not JSON: ${error.message}.` };
  }
  if (!Array.isArray(tools)) return { tools: [], problem: `The tools must be a list: [${FORM}].` };
  const wrong = tools.findIndex((tool) => typeof tool?.function?.name !== "string" || (tool.type ?? "function") !== "function");
  if (wrong >= 0) return { tools: [], problem: `Tool ${wrong + 1} of the list must have the form ${FORM}.` };
  return { tools, problem: "" };
};

export const tools = () => {
  const { tools: list } = readTools(field.value);
  return list.length > 0 ? list : undefined;
};

export const checkTools = () => {
  const { tools: list, problem } = readTools(field.value);
  field.setCustomValidity(problem);
  field.setAttribute("aria-invalid", problem !== "");
  byId("tools-state").className = problem === "" ? "" : "error";
  setText(byId("tools-state"), problem !== "" ? problem
    : list.length === 0 ? "" : `${many(list.length, "tool")}: ${list.map((tool) => tool.function.name).join(", ")}.`);
};

field.addEventListener("input", checkTools);
byId("tools-example").addEventListener("click", () => {
  field.value = JSON.stringify(EXAMPLE, null, 2);
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.dispatchEvent(new Event("change", { bubbles: true }));
});
