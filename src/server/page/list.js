// Shows the list of conversations.

import { changes, chat, newestFirst, remove, rename, save, titleOf } from "./chat.js";
import { announce, byId, make, setText } from "./dom.js";

const PROBLEMS = {
  full: "The browser's storage is full: what is new in this conversation is lost when the page is closed, unless you delete "
    + "other conversations.",
  forbidden: "The browser does not let this page store anything: conversations are lost when the page is closed.",
};
const list = byId("conversations");
const items = new Map();  // by conversation id
let removed = null;       // the conversation that was deleted last
let opens = () => {};     // called with a conversation to open, or null for a new one, and the pane to show

const drawItem = (conversation) => {
  const { id } = conversation, title = titleOf(conversation);
  if (!items.has(id)) items.set(id, makeItem(id));
  const item = items.get(id), [row] = item.children;
  item.conversation = conversation;
  setText(row.children[0].children[0], title);
  setText(row.children[0].children[1], conversation.run ? "answering…" : "");
  if (conversation === chat.open) row.children[0].setAttribute("aria-current", "true");
  else row.children[0].removeAttribute("aria-current");
  row.children[1].ariaLabel = `Rename or delete ${title}`;
  return item;
};

const makeItem = (id) => {
  const item = make("li");
  const name = make("button", { type: "button", className: "open", onclick: () => opens(item.conversation, "chat") },
    make("span", { className: "title" }), make("span", { className: "size" }));
  const more = make("button", { type: "button", className: "more", textContent: "⋯", ariaExpanded: "false", onclick: () => {
    actions.hidden = !actions.hidden;
    more.ariaExpanded = `${!actions.hidden}`;
  } });
  const actions = make("div", { className: "choices", hidden: true },
    make("button", { type: "button", textContent: "Rename", onclick: () => editTitle(item) }),
    make("button", { type: "button", textContent: "Delete", onclick: () => drop(item.conversation) }));
  item.append(make("div", { className: "row" }, name, more), actions);
  item.dataset.id = id;
  return item;
};

const editTitle = (item) => {
  const { conversation } = item, [row, actions] = item.children;
  const field = make("input", { type: "text", value: titleOf(conversation), ariaLabel: "Title", maxLength: 200 });
  const end = (accept) => {
    field.onblur = null;
    const title = field.value.trim();
    field.remove();
    row.hidden = actions.hidden = false;
    row.children[1].focus();
    if (accept && title !== "") rename(conversation, title);
  };
  field.onblur = () => end(true);
  field.onkeydown = (event) => {
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault();
    event.stopPropagation();  // Escape would also stop the answer
    end(event.key === "Enter");
  };
  row.hidden = actions.hidden = true;
  item.prepend(field);
  field.select();
};

const drop = (conversation) => {
  const wasOpen = conversation === chat.open;
  removed = conversation;
  remove(conversation);
  if (wasOpen) opens(null, "list");
  announce(`${titleOf(conversation)} is deleted.`);
  byId("undo").focus();
};
byId("undo").addEventListener("click", () => {
  const conversation = removed;
  removed = null;
  save(conversation);
  opens(conversation, "chat");
});

const draw = () => {
  const shown = newestFirst();
  for (const id of items.keys()) if (!shown.some((conversation) => conversation.id === id)) items.delete(id);
  const nodes = shown.map(drawItem), focused = document.activeElement;
  if (nodes.length !== list.children.length || nodes.some((node, i) => node !== list.children[i])) {
    list.replaceChildren(...nodes);
    if (list.contains(focused)) focused.focus();
  }
  byId("no-conversations").hidden = shown.length > 0;
  byId("removed").hidden = removed === null;
  setText(byId("removed-title"), removed === null ? "" : `“${titleOf(removed)}” is deleted.`);
  setText(byId("unsaved"), PROBLEMS[chat.open.problem] ?? "");
  byId("unsaved").hidden = chat.open.problem === null;
};
changes.addEventListener("change", draw);

export const whenOpened = (then) => { opens = then; };
