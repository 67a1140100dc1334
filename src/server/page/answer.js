// Shows an answer: reasoning, text, calls and state.

import { drawCalls } from "./calls.js";
import { make, setText } from "./dom.js";
import { isReasoning } from "./stream.js";

// Splits a text into blocks of text and blocks of code. Lines of ``` begin and end a block of code.
const blocks = (text) => {
  const found = [];
  let lines = [], code = false;
  const end = () => {
    const part = lines.join("\n");
    if (part.trim() !== "") found.push({ code, text: code ? part : part.replace(/^\n+|\n+$/g, "") });
    lines = [];
  };
  for (const line of text.split("\n")) {
    if (!/^ {0,3}```/.test(line)) { lines.push(line); continue; }
    end();
    code = !code;
  }
  end();
  return found;
};

const drawText = (node, text) => {
  const found = blocks(text);
  found.forEach((block, i) => {
    const tag = block.code ? "PRE" : "DIV";
    if (node.children[i]?.tagName !== tag) {
      while (node.children.length > i) node.lastChild.remove();
      node.append(make(tag, { className: block.code ? "" : "plain" }));
    }
    setText(node.children[i], block.text);
  });
  while (node.children.length > found.length) node.lastChild.remove();  // if a last line `` becomes ```, a block ends
};

// The block is opened and closed once each, so that it stays as the reader wants it.
const drawReasoning = (node, turn, isRunning) => {
  const streams = isRunning && isReasoning(turn);
  node.hidden = !turn.reasoning;
  setText(node.lastChild, turn.reasoning ?? "");
  if (streams !== (node.dataset.streams === "true")) node.open = streams;
  node.dataset.streams = streams;
};

export const makeAnswer = () => [
  make("h3", { className: "unseen", textContent: "Answer" }),
  make("details", { className: "reasoning", hidden: true }, make("summary", { textContent: "Reasoning" }),
    make("div", { className: "plain" })),
  make("div", { className: "answer" }), make("div", { className: "calls" }),
  make("progress", { ariaLabel: "Reading", hidden: true }), make("p", { className: "state", hidden: true }),
  make("p", { className: "error", hidden: true }), make("div", { className: "actions" })];

// isLast: nothing follows the answer. isRunning: it is still being written.
export const drawAnswer = (turn, isLast, isRunning) => {
  const [, reasoning, answer, calls, progress, state, error, actions] = turn.node.children;
  drawReasoning(reasoning, turn, isRunning);
  drawText(answer, turn.text);
  drawCalls(calls, turn.calls ?? [], isLast && !isRunning);
  progress.hidden = !turn.reading;
  if (turn.reading) Object.assign(progress, turn.reading);
  const waiting = turn.waiting ?? turn.note ?? "";
  setText(state, waiting);
  state.hidden = waiting === "";
  setText(error, turn.error ?? "");
  error.hidden = !turn.error;
  if (!isLast || isRunning) actions.textContent = "";
  else if (actions.children.length === 0) actions.append(make("button", { type: "button", id: "again" }));
  if (actions.firstChild) setText(actions.firstChild, turn.error ? "Try again" : "Answer again");
};
