// Shows the open conversation.

import { drawAnswer, makeAnswer } from "./answer.js";
import { chat } from "./chat.js";
import { byId, make } from "./dom.js";
import { sizeOf } from "./format.js";

const list = byId("messages"), scroller = byId("thread");

export const documentLabel = ({ name, text }) => [make("span", { className: "name", textContent: name }),
  make("span", { className: "size", textContent: sizeOf(text) })];

const makeDocuments = (documents) => make("ul", { className: "documents", hidden: documents.length === 0 },
  ...documents.map((d) => make("li", {}, ...documentLabel(d))));
const makeQuestion = ({ text, documents }) => [make("h3", { className: "unseen", textContent: "Question" }),
  makeDocuments(documents), make("div", { className: "plain", textContent: text })];
const makeResult = ({ text, call }) => [make("h3", {}, "Result of ", make("code", { textContent: call.name })),
  make("pre", { textContent: text })];

const draw = (turn) => drawAnswer(turn, turn === chat.open.turns.at(-1), turn === chat.open.run?.turn);

export const drawTurn = (turn) => {
  const children = { user: makeQuestion, tool: makeResult, assistant: makeAnswer }[turn.role](turn);
  turn.node = make("li", { className: turn.role }, ...children);
  if (turn.role === "assistant") draw(turn);
  list.append(turn.node);
  byId("empty").hidden = true;
};

// Draws the answers again, of which only the last has buttons.
export const drawAnswers = () => chat.open.turns.filter((turn) => turn.role === "assistant").forEach(draw);

// Keep the end of the answer visible, unless the user has scrolled away from it.
const below = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
export const toEnd = () => { scroller.scrollTop = scroller.scrollHeight; };
let height = 0;
new ResizeObserver(() => {
  const lost = height - scroller.clientHeight;
  height -= lost;
  if (lost > 0 && below() - lost < 80) toEnd();
}).observe(scroller);
export const drawAndFollow = (turn) => {
  const follows = below() < 80;
  draw(turn);
  if (follows) toEnd();
};

export const drawConversation = () => {
  list.textContent = "";
  byId("empty").hidden = false;
  chat.open.turns.forEach(drawTurn);
  toEnd();
};
