// Shows the text, shaded by the number of layers that hold each token.

import { byId, make, setText } from "./dom.js";
import { count, many, percent } from "./format.js";

export const LONG_TOKENS = 20000;  // in longer texts, a passage consists of several tokens
const MOST_PASSAGES = 3000, PART_TOKENS = 250, LONGEST_PART = 1000, SLICE_MS = 6;
const view = byId("text");
let passages = [];  // {node, begin, end, level}; begin and end are token indices
let holding = { held: [], layers: 0 };
let wanted = null, working = false, here = -1, under = -1;  // passages: here is selected, under is under the pointer

// Level of shading. 0: no layer, 1 to 4: a quarter of the layers each, 5: all.
const levelOf = (held, layers) => held <= 0 ? 0 : held >= layers ? 5 : Math.ceil(4 * held / layers);
const LEVELS = ["no layer", "up to ¼", "up to ½", "up to ¾", "most", "all layers"];
byId("legend").append(...LEVELS.map((name, level) => {
  const item = make("li", { textContent: name });
  item.dataset.level = level;
  return item;
}));

const idle = () => new Promise((done) => window.requestIdleCallback ? requestIdleCallback(done, { timeout: 400 }) : setTimeout(done, 16));
const inSlices = async (steps) => {
  await idle();
  let end = performance.now() + SLICE_MS;
  for (const _ of steps) {
    if (performance.now() < end) continue;
    await idle();
    end = performance.now() + SLICE_MS;
  }
};

// Draws a state of the text. If several states arrive while one is being drawn, only the newest is drawn next. A state
// without pieces uses those of the state before it.
export const showText = async (next) => {
  wanted = { ...next, pieces: next.pieces ?? wanted?.pieces };
  if (working) return;
  working = true;
  while (wanted !== null) {
    const { pieces, held, layers } = wanted;
    wanted = null;
    if (pieces !== undefined) await inSlices(build(pieces));
    holding = { held, layers };
    await inSlices(shade(held, layers));
    summarize(held, layers);
    drawPassage();
  }
  working = false;
};

// Puts paragraphs in separate elements, so that the browser can skip the layout of those that are not visible.
function* build(pieces) {
  const size = pieces.length > LONG_TOKENS ? Math.ceil(pieces.length / MOST_PASSAGES) : 1;
  const parts = document.createDocumentFragment(), built = [];
  let part = null, tokens = 0;
  for (let begin = 0; begin < pieces.length; begin += size) {
    const end = Math.min(begin + size, pieces.length);
    const text = pieces.slice(begin, end).join("");
    const node = make("span", { textContent: text });
    node.dataset.passage = built.length;
    if (part === null) parts.append(part = make("div"));
    part.append(node);
    built.push({ node, begin, end, level: -1 });
    tokens += end - begin;
    if ((tokens >= PART_TOKENS && text.endsWith("\n")) || tokens >= LONGEST_PART * Math.max(1, size / 4)) {
      part = null;
      tokens = 0;
    }
    yield;
  }
  const top = view.scrollTop;
  view.replaceChildren(parts);
  view.scrollTop = top;
  passages = built;
  here = under = -1;
}

const mean = (held, { begin, end }) => {
  let sum = 0;
  for (let i = begin; i < end; i++) sum += held[i] ?? 0;
  return sum / (end - begin);
};

function* shade(held, layers) {
  for (const passage of passages) {
    const level = levelOf(mean(held, passage), layers);
    if (level !== passage.level) passage.node.dataset.level = passage.level = level;
    yield;
  }
}

const summarize = (held, layers) => {
  const some = held.reduce((n, h) => n + (h > 0), 0), all = held.reduce((n, h) => n + (h >= layers), 0);
  setText(byId("held-summary"), held.length === 0 ? "" : `${percent(some / held.length)} of ${many(held.length, "token")} are still held `
    + `by some layer, ${percent(all / held.length)} by all ${layers} layers.`);
};

// Describes a passage in words.
const PASSAGE_HINT = "Point at a word, or use the keys ← and →.";
const describe = (i) => {
  const passage = passages[i];
  if (passage === undefined) return PASSAGE_HINT;
  const { held, layers } = holding;
  const m = mean(held, passage);
  if (passage.end - passage.begin > 1) {
    return `Tokens ${count(passage.begin)} to ${count(passage.end - 1)}: ${m.toFixed(1)} of ${layers} layers on average.`;
  }
  return `Token ${count(passage.begin)}: held by ${m === 0 ? "none" : count(m)} of ${many(layers, "layer")}.`;
};
const drawPassage = () => setText(byId("passage"), describe(under === -1 ? here : under));
const point = (i) => {
  if (i !== here) {
    passages[here]?.node.classList.remove("here");
    passages[i]?.node.classList.add("here");
    here = i;
  }
  drawPassage();
};
const passageOf = (event) => Number(event.target.closest?.("[data-passage]")?.dataset.passage ?? -1);
view.addEventListener("pointermove", (event) => {
  under = passageOf(event);
  drawPassage();
});
view.addEventListener("pointerleave", () => {
  under = -1;
  drawPassage();
});
view.addEventListener("click", (event) => { if (passageOf(event) !== -1) point(passageOf(event)); });
view.addEventListener("keydown", (event) => {
  const to = { ArrowRight: here + 1, ArrowLeft: Math.max(0, here - 1), Home: 0, End: passages.length - 1 }[event.key];
  if (to === undefined || passages.length === 0 || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  under = -1;
  point(Math.min(to, passages.length - 1));
  passages[here].node.scrollIntoView({ block: "nearest" });
});
setText(byId("passage"), PASSAGE_HINT);
