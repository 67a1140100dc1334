// The chat page: conversations, and beside them the tokens that the server holds of the open one.

import { whenResultsAreSent } from "./calls.js";
import { changes, chat, open, openNew, running, save, titleOf } from "./chat.js";
import { draft, note, putDraft, whenSent } from "./composer.js";
import { announce, byId, setText } from "./dom.js";
import { showOpened } from "./holdings.js";
import { askForKey, hideKey, whenKeyIsGiven } from "./key.js";
import { updateLimits } from "./limits.js";
import { whenOpened } from "./list.js";
import { showPane } from "./panes.js";
import { loadDocuments, loadProperties, properties } from "./properties.js";
import { again, refusal, request, showRunning, stop } from "./request.js";
import { areSettingsValid, showDefaults, whenSet } from "./settings.js";
import { showShelf } from "./shelf.js";
import { drawConversation, drawTurn } from "./thread.js";

const greet = async () => {
  try {
    await loadProperties();
    const { model } = properties;
    setText(byId("model"), model);
    document.title = model === "" ? "cake" : `cake: ${model}`;
    showDefaults();
    updateLimits();
    await loadDocuments();
    showShelf();
  } catch (error) {
    if (error.status === 401) askForKey();
  }
};

const showOpen = () => {
  drawConversation();
  showRunning();
  showShelf();
  showOpened();
};

// Opens a conversation, or a new one if it is null.
const change = (conversation, pane) => {
  chat.open.draft = draft();
  if (conversation === null) openNew();
  else open(conversation);
  showPane(pane);
  putDraft(chat.open.draft);
  showOpen();
  announce(conversation === null ? "A new conversation." : `${titleOf(conversation)} is open.`);
  byId("message").focus();
};

const answer = (turns) => {
  hideKey();
  chat.open.turns.push(...turns);
  turns.forEach(drawTurn);
  request();
};

whenSent(refusal, (turn) => answer([turn]));
whenResultsAreSent((results) => {
  const reason = refusal();
  if (reason !== null) return note(reason);
  if (!areSettingsValid()) return;
  const { calls } = chat.open.turns.at(-1);
  answer(results.map((text, i) => ({ role: "tool", text, call: calls[i] })));
  byId("message").focus();
});
whenKeyIsGiven(() => {
  byId("message").focus();
  greet();
  showOpened();
  if (chat.open.turns.at(-1)?.error) again();
});
whenOpened(change);
changes.addEventListener("replaced", showOpen);
whenSet(updateLimits);
byId("new").addEventListener("click", () => change(null, "chat"));
byId("stop").addEventListener("click", () => { stop(); byId("message").focus(); });
byId("messages").addEventListener("click", (event) => { if (event.target.id === "again") again(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !byId("settings").open) stop();
});
addEventListener("pagehide", () => {
  for (const conversation of running()) {
    Object.assign(conversation.run.turn, { note: "Stopped." });
    save(conversation);
  }
});

open(chat.open);
showOpen();
greet();
