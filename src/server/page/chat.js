// State of the conversation and of the running request, without any display.

import { store, stored } from "./storage.js";

export const chat = {
  turns: stored("turns") ?? [],  // {role: "user", text, documents: [{name, text}]} or {role: "assistant", text, note, error}
  shown: stored("shown"),        // the completion whose memory is shown: {id, prompt, cached, first, speed, answer}
  running: null,                 // the running request: {abort, over, ended, turn, seen, draw, rate}
};

// The documents come first and the question last, because the last tokens of a prompt decide what cake keeps.
const content = ({ text, documents = [] }) => [...documents.map((d) => d.text), text].filter((t) => t !== "").join("\n\n");

// If an answer failed, its question is joined with the next one, because models expect the roles to alternate.
export const messages = () => {
  const list = [];
  for (const turn of chat.turns) {
    const text = content(turn);
    if (text === "") continue;
    if (list.at(-1)?.role === turn.role) list.at(-1).content += `\n\n${text}`;
    else list.push({ role: turn.role, content: text });
  }
  return list;
};

const STORED_CHARACTERS = 4e6;  // browsers store about 5 million
export const save = () => {
  const size = chat.turns.reduce((sum, turn) => sum + content(turn).length, 0);
  const fits = size <= STORED_CHARACTERS;
  store("turns", fits ? chat.turns.map(({ role, text, documents, note, error }) => ({ role, text, documents, note, error })) : []);
  store("shown", fits ? chat.shown : null);
};
