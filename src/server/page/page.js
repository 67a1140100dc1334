// The chat page: a conversation, and beside it the tokens that the server holds of its text.

import { askJson } from "./api.js";
import { chat, save } from "./chat.js";
import { dropDocuments, note, whenSent } from "./composer.js";
import { announce, byId, setText } from "./dom.js";
import { showAgain, showNothing } from "./holdings.js";
import { askForKey, hideKey, whenKeyIsGiven } from "./key.js";
import { again, request, showRunning, stop } from "./request.js";
import { drawConversation, drawTurn, toEnd } from "./thread.js";

const greet = async () => {
  try {
    const name = (await askJson("v1/models")).data?.[0]?.id ?? "";
    setText(byId("model"), name);
    document.title = name === "" ? "cake" : `cake: ${name}`;
  } catch (error) {
    if (error.status === 401) askForKey();
  }
};

const begin = () => {
  const run = chat.running;
  Object.assign(chat, { turns: [], shown: null, running: null });
  run?.abort.abort();
  save();
  dropDocuments();
  drawConversation();
  showRunning();
  showNothing("What the model holds of the text, layer by layer, is shown here when you have asked something.");
  note("");
  announce("A new conversation.");
  byId("message").focus();
};

whenSent(() => chat.running === null, (turn) => {
  hideKey();
  chat.turns.push(turn);
  drawTurn(turn);
  request();
});
whenKeyIsGiven(() => {
  byId("message").focus();
  greet();
  if (chat.turns.at(-1)?.error) again();
});
byId("new").addEventListener("click", begin);
byId("stop").addEventListener("click", () => { stop(); byId("message").focus(); });
byId("messages").addEventListener("click", (event) => { if (event.target.id === "again") again(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.isComposing) stop(); });
addEventListener("pagehide", () => {
  if (chat.running !== null) Object.assign(chat.running.turn, { note: "Stopped.", waiting: undefined });
  save();
});

drawConversation();
toEnd();
greet();
showAgain();
