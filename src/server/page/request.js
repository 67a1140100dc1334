// Requests an answer and shows it as it arrives.

import { announcer } from "./announcer.js";
import { ServerError, ask, events, explain } from "./api.js";
import { changed, chat, running, save } from "./chat.js";
import { announce, byId, now } from "./dom.js";
import { watch } from "./holdings.js";
import { askForKey } from "./key.js";
import { messages } from "./messages.js";
import { areSettingsValid, settings } from "./settings.js";
import { showShelf } from "./shelf.js";
import { addDelta, isReasoning, noteOf } from "./stream.js";
import { drawAndFollow, drawAnswers, drawTurn, toEnd } from "./thread.js";

const MOST_ANSWERS = 3;  // at once; browsers open six connections, of which each answer takes two

// Returns why no request can be made now, or null.
export const refusal = () => {
  if (chat.open.run !== null) return "Wait for the answer, or stop it.";
  if (running().length < MOST_ANSWERS) return null;
  return `${MOST_ANSWERS} other conversations are being answered: wait for one of them, or stop it.`;
};

export const showRunning = () => {
  byId("send").hidden = chat.open.run !== null;
  byId("stop").hidden = chat.open.run === null;
};

const post = (body, signal) => ask("v1/chat/completions", {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
});

// What the stream of an answer has reported, besides its text.
const makeRun = (conversation, turn) => {
  const abort = new AbortController();
  let finish, drawn = true;
  const over = new Promise((done) => { finish = done; });
  const run = { conversation, turn, abort, over, finish, ended: false, seen: null, sent: now(), first: null };
  run.isShown = () => chat.open === conversation && conversation.run === run;
  run.draw = () => {
    if (!drawn) return;
    drawn = false;
    requestAnimationFrame(() => {
      drawn = true;
      if (run.isShown()) drawAndFollow(turn);
    });
  };
  run.rate = (tokens) => tokens > 1 && run.first !== null ? (tokens - 1) / (now() - run.first) : null;
  return run;
};

// Reads the stream into the turn.
const receive = async (run, response, tell) => {
  const { conversation, turn } = run;
  let reason = null, usage = null, timings = null;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return { reason: reason ?? "stop", usage, timings };
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(null, chunk.error);
    if (chunk.id && conversation.shown?.id !== chunk.id) {
      conversation.shown = { id: chunk.id };
      watch(run, conversation.shown);
    }
    usage = chunk.usage ?? usage;
    timings = chunk.timings ?? timings;
    const choice = chunk.choices?.[0];
    reason = choice?.finish_reason ?? reason;
    if (!addDelta(turn, choice?.delta ?? {})) continue;
    if (run.first === null) {
      run.first = now();
      conversation.shown.first = run.first - run.sent;
      turn.waiting = turn.reading = undefined;
      if (isReasoning(turn) && run.isShown()) announce("The model is reasoning.");
    }
    if (run.isShown()) tell(turn.text, false);
    run.draw();
  }
  if (reason === null) throw new Error("The answer broke off, as the connection was closed: try again.");
  return { reason, usage, timings };
};

// A call arrives only when it is complete, so the server's own times are the better ones.
const keepFigures = (run, { usage, timings }) => {
  const { shown } = run.conversation;
  if (!shown) return;
  if (usage) {
    shown.prompt = usage.prompt_tokens;
    shown.cached = usage.prompt_tokens_details?.cached_tokens;
    shown.answer = usage.completion_tokens;
  }
  if (timings) shown.first = Math.min(shown.first ?? Infinity, now() - run.sent - timings.predicted_ms / 1000);
  shown.speed = timings?.predicted_per_second ?? run.rate(run.seen?.generated_tokens ?? 0) ?? undefined;
};

// Shows the complete answer.
const showEnd = (run, tell) => {
  const { turn } = run;
  if (chat.open === run.conversation) {
    drawAndFollow(turn);
    showRunning();
    const calls = (turn.calls ?? []).map(({ name }) => `The model calls ${name} and waits for the result.`);
    tell([turn.text, ...calls, turn.note, turn.error].filter(Boolean).join("\n"), true);
  }
  save(run.conversation);
};

// Requests an answer to the turns of the open conversation.
export const request = async () => {
  const conversation = chat.open;
  const turn = { role: "assistant", text: "", waiting: "Sent to the server…" };
  const body = { messages: messages(conversation.turns), stream: true, stream_options: { include_usage: true }, ...settings() };
  // A document was read with a policy of its own, and tools would stand before it.
  if (conversation.about !== "") Object.assign(body, { document: conversation.about, policy: undefined, tools: undefined });
  const run = makeRun(conversation, turn), tell = announcer();
  conversation.run = run;
  conversation.turns.push(turn);
  conversation.changed = Date.now();
  drawTurn(turn);
  drawAnswers();
  showRunning();
  showShelf();
  toEnd();
  save(conversation);
  announce("The text is being read.");
  let end = {};
  try {
    end = await receive(run, await post(body, run.abort.signal), tell);
    turn.note = noteOf(turn, end.reason);
  } catch (error) {
    if (run.abort.signal.aborted) turn.note = "Stopped.";
    else turn.error = explain(error);
    if (error.status === 401 && chat.open === conversation) askForKey();
  } finally {
    turn.waiting = turn.reading = undefined;
    if (conversation.run === run) {  // otherwise the conversation was deleted
      conversation.run = null;
      keepFigures(run, end);
      showEnd(run, tell);
    }
    run.ended = true;
    run.finish();
    changed();
  }
};

export const again = () => {
  const { turns } = chat.open;
  if (refusal() !== null || !areSettingsValid()) return;
  if (turns.at(-1)?.role === "assistant") turns.pop().node.remove();
  byId("message").focus();
  request();
};

export const stop = () => chat.open.run?.abort.abort();
