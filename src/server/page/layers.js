// Shows how many tokens each layer keeps.

import { byId, make, setText } from "./dom.js";
import { count } from "./format.js";

const may = (layer) => layer.window > 0 ? layer.window : layer.budget;

const describe = (layer) => {
  if (layer.recurrent) return "a state of fixed size";
  if (layer.kv_layer !== null) return `reads layer ${layer.kv_layer}`;
  if (layer.kept === 0 && may(layer) === 0) return "not read yet";
  return count(layer.kept) + (may(layer) > 0 ? ` of ${count(may(layer))}` : "") + (layer.window > 0 ? " (window)" : "");
};

const setRows = (n) => {
  const rows = byId("layers").tBodies[0];
  while (rows.children.length > n) rows.lastChild.remove();
  while (rows.children.length < n) {
    const bar = make("div", { className: "bar" }, make("div"));
    bar.setAttribute("aria-hidden", "true");
    rows.append(make("tr", {}, make("th", { scope: "row" }), make("td", {}, bar), make("td")));
  }
  return [...rows.children];
};

const drawRow = (row, { name, className, width, share, text }) => {
  const [head, cell, numbers] = row.children, bar = cell.firstChild;
  row.className = className;
  setText(head, name);
  bar.hidden = width === 0;
  bar.style.width = `${100 * width}%`;
  bar.firstChild.style.transform = `scaleX(${share})`;
  setText(numbers, text);
};

export const showLayers = (layers) => {
  const rows = setRows(layers.length), most = Math.max(1, ...layers.map((layer) => Math.max(may(layer), layer.kept)));
  layers.forEach((layer, i) => {
    const whole = Math.max(may(layer), layer.kept);
    drawRow(rows[i], {
      name: `layer ${layer.layer}`, className: layer.window > 0 ? "window" : "", width: whole / most,
      share: whole > 0 ? layer.kept / whole : 0, text: describe(layer),
    });
  });
};

// Layers of which nothing is known yet but their number.
export const showEmptyLayers = (n) => setRows(n).forEach((row, i) =>
  drawRow(row, { name: `layer ${i}`, className: "", width: 1, share: 0, text: "empty" }));
