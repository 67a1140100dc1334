// Shows the tokens that the server holds of the open conversation, layer by layer.

import { askSlot, explain } from "./api.js";
import { chat } from "./chat.js";
import { byId, now, setRows, setText, sleep } from "./dom.js";
import { count, many, rate, seconds } from "./format.js";
import { showLayers } from "./layers.js";
import { hideLimits, showLimits } from "./limits.js";
import { showMemory, showServerMemory } from "./memory.js";
import { LONG_TOKENS, showText } from "./text.js";

const POLL_MS = 500, POLL_LONG_MS = 2000;
const GONE = "This text is no longer in the server's memory: the next question reads it again.";

const isShown = (conversation, figures) => chat.open === conversation && conversation.shown === figures;

// Polls the state of a completion until its request has ended, and once more after it has. Nothing is asked or drawn
// while another conversation is open.
export const watch = async (run, figures) => {
  const { conversation, turn } = run;
  let piecesOf = -1, start = null;
  for (;;) {
    const last = run.ended;
    let slot = null;
    if (conversation.shown !== figures) return;  // another completion is shown now
    if (chat.open !== conversation) {
      if (last) return;
      piecesOf = -1;
      await Promise.race([sleep(POLL_MS), run.over]);
      continue;
    }
    try {
      slot = await askSlot(figures.id, last);
      if (!last && slot.prompt_tokens !== piecesOf) {
        slot = await askSlot(figures.id, true);
        piecesOf = slot.prompt_tokens;
      }
    } catch (error) {
      if (error.status === 404 && isShown(conversation, figures)) return showLimits(GONE);
    }
    if (last) slot ??= run.seen;  // the server does not respond: show its last state
    if (slot !== null) {
      if (slot.state === "reading") start ??= { when: now(), read: slot.read_tokens };
      run.seen = slot;
      if (!last) showWaiting(run, turn, slot);
      if (isShown(conversation, figures)) showSlot(slot, figures, last ? null : { start, rate: run.rate });
      else piecesOf = -1;
    }
    if (last) {
      if (isShown(conversation, figures)) showServerMemory();
      return;
    }
    await Promise.race([sleep((slot?.held?.length ?? 0) > LONG_TOKENS ? POLL_LONG_MS : POLL_MS), run.over]);
    if (run.abort.signal.aborted) await sleep(300);  // the server notices a closed connection a moment later
  }
};

const showWaiting = (run, turn, slot) => {
  if (!turn.waiting) return;
  turn.waiting = waitingText(slot);
  turn.reading = slot.state === "reading" ? { value: slot.read_tokens, max: Math.max(1, slot.prompt_tokens) } : undefined;
  run.draw();
};

const waitingText = (slot) => {
  if (slot.state === "queued") {
    return slot.queue_position > 0 ? `Waiting for ${many(slot.queue_position, "other request")}…` : "Waiting for its turn…";
  }
  if (slot.state !== "reading") return "Writing…";
  return `Reading: ${count(slot.read_tokens)} of ${many(slot.prompt_tokens, "token")}`;
};

const speedText = (slot, start) => {
  const passed = start === null ? 0 : now() - start.when;
  const speed = passed > 0.2 ? (slot.read_tokens - start.read) / passed : 0;
  return speed > 0 ? `, ${rate(speed)} tokens a second, ${seconds((slot.prompt_tokens - slot.read_tokens) / speed)} left` : "";
};

const progressText = (slot, figures, live) => {
  if (live === null) {
    const part = slot.read_tokens < slot.prompt_tokens ? `${count(slot.read_tokens)} of ` : "";
    const written = count(figures.answer ?? slot.generated_tokens);
    return `Read ${part}${many(slot.prompt_tokens, "token")}, and answered with ${written}.`;
  }
  if (slot.state === "reading") return waitingText(slot) + speedText(slot, live.start);
  return slot.state === "queued" ? waitingText(slot) : `Answering: ${many(slot.generated_tokens, "token")} so far.`;
};

// live: what is known of the running request, or null if it has ended.
const showSlot = (slot, figures, live) => {
  hideLimits();
  byId("reading").hidden = live === null || slot.state !== "reading";
  byId("reading").max = Math.max(1, slot.prompt_tokens);
  byId("reading").value = slot.read_tokens;
  setText(byId("progress"), progressText(slot, figures, live));

  const speed = live === null ? figures.speed : live.rate(slot.generated_tokens);
  const prompt = figures.prompt ?? slot.prompt_tokens, cached = figures.cached ?? slot.cached_tokens;
  const budget = `${slot.policy}, ${count(slot.kv.budget_tokens_per_layer)} tokens a layer`;
  setRows(byId("figures"), [
    ["policy", slot.policy === "full" ? "full: everything is kept" : budget],
    ["time to the first token", figures.first === undefined ? "–" : seconds(figures.first)],
    ["speed of the answer", speed ? `${rate(speed)} tokens a second` : "–"],
    ["prompt", cached > 0 ? `${count(cached)} of ${many(prompt, "token")} were still in memory`
      : `${many(prompt, "token")}, all read anew`],
  ]);
  showMemory(slot.kv);
  showLayers(slot.layers ?? []);
  showText({ pieces: slot.pieces, held: slot.held ?? [], layers: slot.n_kv_layers });
};

// Shows what is held of the conversation that has been opened. While it is being answered, watch() shows it.
export const showOpened = async () => {
  const conversation = chat.open, figures = conversation.shown;
  if (conversation.run !== null) return showLimits("The server is asked…");
  if (figures === null) return showLimits();
  try {
    const slot = await askSlot(figures.id, true);
    if (!isShown(conversation, figures) || conversation.run !== null) return;
    showSlot(slot, figures, null);
    showServerMemory();
  } catch (error) {
    if (isShown(conversation, figures)) showLimits(error.status === 404 ? GONE : explain(error));
  }
};
