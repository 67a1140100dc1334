// Shows the empty cake: the limits of what the server will hold of a text.

import { byId, setRows, setText } from "./dom.js";
import { count, many } from "./format.js";
import { showEmptyLayers } from "./layers.js";
import { showNoMemory, showServerMemory } from "./memory.js";
import { properties } from "./properties.js";
import { settings } from "./settings.js";
import { showText } from "./text.js";

const FIRST = "Nothing has been read yet. What the model holds of the text appears here, layer by layer.";
let isShown = false;

const budgetText = (budget) => budget ? `${count(budget)} tokens a layer` : "the server's default";

const draw = () => {
  const { n_ctx, n_layer, sequences, ...usual } = properties;
  const given = settings(), policy = given.policy ?? usual.policy;
  const budget = given.kv_budget ?? usual.kv_budget;
  setRows(byId("figures"), [
    ["policy", policy === "full" ? "full: everything is kept" : policy || "–"],
    ["budget", policy === "full" ? "the whole text" : budgetText(budget)],
    ["context", n_ctx ? many(n_ctx, "token") : "–"],
    ["conversations in memory", sequences ? `up to ${count(sequences)}` : "–"],
  ]);
  showEmptyLayers(n_layer);
};

export const showLimits = (why = FIRST) => {
  isShown = true;
  setText(byId("progress"), why);
  byId("reading").hidden = true;
  byId("text-section").hidden = true;
  draw();
  showNoMemory();
  showText({ pieces: [], held: [], layers: 0 });
  showServerMemory();
};
export const hideLimits = () => {
  isShown = false;
  byId("text-section").hidden = false;
};

// Draws the limits again if they are shown: after a setting has changed, or when the server's properties are known.
export const updateLimits = () => { if (isShown) draw(); };
