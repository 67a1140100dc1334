// Requests an answer and shows it as it arrives.

import { ServerError, ask, events, explain } from "./api.js";
import { chat, messages, save } from "./chat.js";
import { announce, byId, now } from "./dom.js";
import { watch } from "./holdings.js";
import { askForKey } from "./key.js";
import { settings } from "./settings.js";
import { drawAndFollow, drawTurn, removeActions, toEnd } from "./thread.js";

export const showRunning = () => {
  byId("send").hidden = chat.running !== null;
  byId("stop").hidden = chat.running === null;
};

// Announces whole sentences of an answer, at most every few seconds.
const announcer = () => {
  let said = 0, when = -Infinity;
  return (text, ended) => {
    if (!ended && now() - when < 4) return;
    const end = ended ? text.length : Math.max(...[". ", "! ", "? ", "\n", "。"].map((mark) => text.lastIndexOf(mark))) + 1;
    if (end <= said) return;
    announce(text.slice(said, end));
    said = end;
    when = now();
  };
};

// Requests an answer to the turns so far.
export const request = async () => {
  const turn = { role: "assistant", text: "", waiting: "Sent to the server…" };
  const body = { messages: messages(), stream: true, stream_options: { include_usage: true }, ...settings() };
  const abort = new AbortController();
  let finish;
  const run = { abort, over: new Promise((done) => { finish = done; }), ended: false, turn, seen: null };
  removeActions();
  chat.turns.push(turn);
  chat.running = run;
  showRunning();
  drawTurn(turn);
  toEnd();
  save();

  const sent = now();
  let first = null, latest = null, usage = null, reason = null, done = false;
  const tell = announcer();
  announce("The text is being read.");
  let drawn = true;
  run.draw = () => {
    if (!drawn) return;
    drawn = false;
    requestAnimationFrame(() => {
      drawn = true;
      if (run === chat.running) drawAndFollow(turn);
    });
  };
  run.rate = (tokens) => tokens > 1 && latest > first ? (tokens - 1) / (latest - first) : null;
  try {
    const response = await ask("v1/chat/completions", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: abort.signal,
    });
    for await (const data of events(response.body)) {
      if (data === "[DONE]") { done = true; break; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ServerError(null, chunk.error);
      if (run !== chat.running) return;
      if (chunk.id && chat.shown?.id !== chunk.id) {
        chat.shown = { id: chunk.id };
        watch(run, chat.shown);
      }
      usage = chunk.usage ?? usage;
      const choice = chunk.choices?.[0];
      reason = choice?.finish_reason ?? reason;
      const text = choice?.delta?.content ?? "";
      if (text === "") continue;
      latest = now();
      if (first === null) {
        first = latest;
        chat.shown.first = first - sent;
        turn.waiting = undefined;
      }
      turn.text += text;
      tell(turn.text, false);
      run.draw();
    }
    if (!done && reason === null) throw new Error("The answer broke off, as the connection was closed: try again.");
    if (reason === "length") turn.note = "The answer stops here because it reached its longest length.";
    else if (turn.text === "") turn.note = "The answer is empty.";
  } catch (error) {
    if (abort.signal.aborted) turn.note = "Stopped.";
    else turn.error = explain(error);
    if (error.status === 401) askForKey();
  } finally {
    if (run === chat.running) {  // otherwise a new conversation has begun
      const { shown } = chat;
      chat.running = null;
      turn.waiting = undefined;
      if (usage && shown) {
        shown.prompt = usage.prompt_tokens;
        shown.cached = usage.prompt_tokens_details?.cached_tokens;
        shown.answer = usage.completion_tokens;
      }
      if (shown && first !== null) shown.speed = run.rate(shown.answer ?? run.seen?.generated_tokens ?? 0) ?? undefined;
      drawAndFollow(turn);
      showRunning();
      save();
      tell([turn.text, turn.note, turn.error].filter(Boolean).join("\n"), true);
    }
    run.ended = true;
    finish();
  }
};

export const again = () => {
  if (chat.running !== null) return;
  if (chat.turns.at(-1)?.role === "assistant") chat.turns.pop().node.remove();
  byId("message").focus();
  request();
};

export const stop = () => chat.running?.abort.abort();
