// Shows the conversation.

import { chat } from "./chat.js";
import { byId, make, setText } from "./dom.js";
import { sizeOf } from "./format.js";

const list = byId("messages");
const panes = matchMedia("(min-width: 54rem) and (min-height: 30rem)");

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

export const documentLabel = ({ name, text }) => [make("span", { className: "name", textContent: name }),
  make("span", { className: "size", textContent: sizeOf(text) })];

export const drawTurn = (turn) => {
  const node = make("li", { className: turn.role });
  turn.node = node;
  if (turn.role === "user") {
    node.append(make("h3", { className: "unseen", textContent: "Question" }));
    if (turn.documents.length > 0) {
      node.append(make("ul", { className: "documents" }, ...turn.documents.map((d) => make("li", {}, ...documentLabel(d)))));
    }
    node.append(make("div", { className: "plain", textContent: turn.text }));
  } else {
    node.append(make("h3", { className: "unseen", textContent: "Answer" }), make("div", { className: "answer" }),
      make("p", { className: "state", hidden: true }), make("p", { className: "error", hidden: true }),
      make("div", { className: "actions" }));
    drawAnswer(turn);
  }
  list.append(node);
  byId("empty").hidden = true;
};

const drawAnswer = (turn) => {
  const [, answer, state, error, actions] = turn.node.children;
  drawText(answer, turn.text);
  const waiting = turn.waiting ?? turn.note ?? "";
  setText(state, waiting);
  state.hidden = waiting === "";
  setText(error, turn.error ?? "");
  error.hidden = !turn.error;
  const last = turn === chat.turns.at(-1) && chat.running === null;
  if (!last) actions.textContent = "";
  else if (actions.children.length === 0) actions.append(make("button", { type: "button", id: "again" }));
  if (last) setText(actions.firstChild, turn.error ? "Try again" : "Answer again");
};

// Keep the end of the answer visible, unless the user has scrolled away from it.
const below = () => list.getBoundingClientRect().bottom - byId("foot").getBoundingClientRect().top + 16;
export const toEnd = () => {
  if (below() > 0) (panes.matches ? byId("chat") : document.scrollingElement).scrollBy({ top: below(), behavior: "instant" });
};
let footHeight = 0;
new ResizeObserver(() => {
  const grown = byId("foot").offsetHeight - footHeight;
  footHeight += grown;
  if (grown > 0 && below() - grown < 80) toEnd();
}).observe(byId("foot"));
export const drawAndFollow = (turn) => {
  const follows = below() < 80;
  drawAnswer(turn);
  if (follows) toEnd();
};

export const drawConversation = () => {
  list.textContent = "";
  byId("empty").hidden = false;
  chat.turns.forEach(drawTurn);
};
export const removeActions = () => list.querySelectorAll(".actions").forEach((node) => node.replaceChildren());
