// The conversations, and which of them is open, without any display.

import { forget, store, storeInTab, stored, storedInTab, storedKeys, whenStoredElsewhere } from "./storage.js";

const KEY = "conversation:", TITLE_CHARACTERS = 60;

// A conversation is {id, title, changed, about, turns, shown, run, draft, problem}.
// about: the name of a document that the server has read already, or ""
// turns: {role: "user", text, documents: [{name, text}]}, {role: "assistant", text, reasoning, calls: [{id, name,
//   arguments}], note, error} or {role: "tool", text, call}, where `call` is one of the calls of an answer
// shown: the completion whose memory is shown: {id, prompt, cached, first, speed, answer}
// run: the running request, or null
// draft: what is in the message box while another conversation is open
// problem: why the newest state could not be stored: "full", "forbidden", or null
const created = (fields) =>
  ({ title: "", changed: Date.now(), about: "", turns: [], shown: null, run: null, draft: null, problem: null, ...fields });
const blank = () => created({ id: Date.now().toString(36) + Math.random().toString(36).slice(2) });

const conversations = new Map();
for (const key of storedKeys(KEY)) {
  const id = key.slice(KEY.length), conversation = stored(key);
  if (Array.isArray(conversation?.turns)) conversations.set(id, created({ ...conversation, id }));
}

export const chat = { open: conversations.get(storedInTab("open")) ?? blank() };
export const changes = new EventTarget();  // "change": of the list of conversations, or of what it shows
// of one; "replaced": the open conversation is another object now
export const changed = () => changes.dispatchEvent(new Event("change"));

export const open = (conversation) => {
  chat.open = conversation;
  storeInTab("open", conversation.id);
  changed();
};
export const openNew = () => open(blank());

export const newestFirst = () => [...conversations.values()].sort((a, b) => b.changed - a.changed);
export const running = () => newestFirst().filter((conversation) => conversation.run !== null);

export const titleOf = ({ title, turns }) => {
  if (title !== "") return title;
  const question = (turns[0]?.text || turns[0]?.documents?.[0]?.name || "New conversation").trim().split("\n")[0];
  return question.length > TITLE_CHARACTERS ? `${question.slice(0, TITLE_CHARACTERS)}…` : question;
};

export const save = (conversation) => {
  const { id, title, about, turns, shown } = conversation;
  if (turns.length === 0) return;
  conversations.set(id, conversation);
  const kept = turns.map(({ role, text, reasoning, calls, call, documents, note, error }) =>
    ({ role, text, reasoning, calls, call, documents, note, error }));
  conversation.problem = store(KEY + id, { title, changed: conversation.changed, about, turns: kept, shown });
  changed();
};

export const rename = (conversation, title) => {
  conversation.title = title;
  save(conversation);
};

export const remove = (conversation) => {
  conversation.run?.abort.abort();
  conversation.run = null;
  conversations.delete(conversation.id);
  forget(KEY + conversation.id);
  newestFirst().filter((other) => other.problem !== null).forEach(save);  // there may be room for them now
  changed();
};

// Another tab may have changed a conversation. What is being answered here stays as it is here, and so does what is open
// here and was deleted there.
whenStoredElsewhere((key) => {
  if (!key.startsWith(KEY)) return;
  const id = key.slice(KEY.length), here = conversations.get(id), there = stored(key);
  const isOpen = id === chat.open.id;
  if (here?.run || (there === null && isOpen)) return;
  if (there === null) conversations.delete(id);
  else conversations.set(id, created({ ...there, id, draft: here?.draft ?? null }));
  if (isOpen) {
    chat.open = conversations.get(id);
    changes.dispatchEvent(new Event("replaced"));
  }
  changed();
});
