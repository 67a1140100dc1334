// Shows the calls of an answer, and the form for their results.

import { byId, make, setText } from "./dom.js";
import { many } from "./format.js";

const formatted = (given) => {
  try { return JSON.stringify(JSON.parse(given), null, 2); } catch { return given; }  // a text that still arrives
};

const drawCall = (node, { name, arguments: given }) => {
  if (node.children.length === 0) node.append(make("h4", {}, "Call of ", make("code")), make("pre"));
  setText(node.firstChild.lastChild, name);
  setText(node.lastChild, formatted(given));
};

const drawForm = (calls) => {
  const fields = calls.map(({ name }, i) => make("label", {}, make("span", { textContent: calls.length === 1
    ? `Result of ${name}` : `Result of ${name}, call ${i + 1}` }), make("textarea", { rows: 2, required: true })));
  const send = calls.length === 1 ? "Send the result" : `Send ${many(calls.length, "result")}`;
  return make("form", { className: "results" }, ...fields, make("button", { type: "submit", className: "main", textContent: send }));
};

// Draws the calls of a turn. The form is shown if `isOpen`: the answer is complete, and nothing follows it.
export const drawCalls = (node, calls, isOpen) => {
  calls.forEach((call, i) => {
    if (!node.children[i]?.matches(".call")) node.append(make("section", { className: "call" }));
    drawCall(node.children[i], call);
  });
  const form = node.querySelector("form");
  if (form && !isOpen) form.remove();
  if (!form && isOpen && calls.length > 0) node.append(drawForm(calls));
};

// Calls `then` with the texts of the results, in the order of the calls.
export const whenResultsAreSent = (then) => byId("messages").addEventListener("submit", (event) => {
  event.preventDefault();
  then([...event.target.querySelectorAll("textarea")].map((field) => field.value));
});
