// Shows the tokens that the server holds of the current text, layer by layer.

import { askJson, askSlot } from "./api.js";
import { chat } from "./chat.js";
import { byId, make, now, setText, sleep } from "./dom.js";
import { bytes, count, many, percent, rate, seconds } from "./format.js";
import { LONG_TOKENS, showText } from "./text.js";

const POLL_MS = 500, POLL_LONG_MS = 2000;
const GONE = "This text is no longer in the server's memory.";

// Polls the state of a completion until its request has ended, and once more after it has.
export const watch = async (run, figures) => {
  let piecesOf = -1, start = null;
  for (;;) {
    const last = run.ended;
    let slot = null;
    try {
      slot = await askSlot(figures.id, last);
      if (!last && slot.prompt_tokens !== piecesOf) {
        slot = await askSlot(figures.id, true);
        piecesOf = slot.prompt_tokens;
      }
    } catch (error) {
      if (error.status === 404 && chat.shown === figures) return showNothing(GONE);
    }
    if (chat.shown !== figures) return;  // another completion is shown now
    if (last) slot ??= run.seen;         // the server does not respond: show its last state
    if (slot !== null) {
      if (slot.state === "reading") start ??= { when: now(), read: slot.read_tokens };
      run.seen = slot;
      if (!last) {
        run.turn.waiting &&= waitingText(slot);
        run.draw();
      }
      showSlot(slot, figures, last ? null : { start, rate: run.rate });
    }
    if (last) {
      showServer();
      return;
    }
    await Promise.race([sleep((slot?.held?.length ?? 0) > LONG_TOKENS ? POLL_LONG_MS : POLL_MS), run.over]);
    if (run.abort.signal.aborted) await sleep(300);  // the server notices a closed connection a moment later
  }
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

export const showNothing = (why) => {
  setText(byId("progress"), why);
  byId("reading").hidden = true;
  byId("holdings").hidden = true;
  showText({ pieces: [], held: [], layers: 0 });
};

const showSlot = (slot, figures, live) => {
  byId("holdings").hidden = false;
  const reading = live !== null && slot.state === "reading";
  byId("reading").hidden = !reading;
  byId("reading").max = Math.max(1, slot.prompt_tokens);
  byId("reading").value = slot.read_tokens;
  const part = slot.read_tokens < slot.prompt_tokens ? `${count(slot.read_tokens)} of ` : "";
  setText(byId("progress"), live === null
    ? `Read ${part}${many(slot.prompt_tokens, "token")}, and answered with ${count(figures.answer ?? slot.generated_tokens)}.`
    : reading ? waitingText(slot) + speedText(slot, live.start)
    : slot.state === "queued" ? waitingText(slot)
    : `Answering: ${many(slot.generated_tokens, "token")} so far.`);

  const speed = live === null ? figures.speed : live.rate?.(slot.generated_tokens);
  const prompt = figures.prompt ?? slot.prompt_tokens, cached = figures.cached ?? slot.cached_tokens;
  const budget = `${slot.policy}, ${count(slot.kv.budget_tokens_per_layer)} tokens a layer`;
  const lines = [
    ["policy", slot.policy === "full" ? "full: everything is kept" : budget],
    ["time to the first token", figures.first === undefined ? "–" : seconds(figures.first)],
    ["speed of the answer", speed ? `${rate(speed)} tokens a second` : "–"],
    ["prompt", cached > 0 ? `${count(cached)} of ${many(prompt, "token")} were still in memory`
      : `${many(prompt, "token")}, all read anew`],
  ];
  const dl = byId("figures");
  while (dl.children.length < 2 * lines.length) dl.append(make("dt"), make("dd"));
  lines.flat().forEach((text, i) => setText(dl.children[i], text));

  const { bytes_now, bytes_allocated, bytes_full_cache } = slot.kv;
  const most = Math.max(1, bytes_now, bytes_full_cache);
  setText(byId("memory-ratio"), bytes_full_cache > 0
    ? `${bytes(bytes_now)} instead of ${bytes(bytes_full_cache)}: ${percent(bytes_now / bytes_full_cache)}` : "Nothing is held yet.");
  setText(byId("held-bytes"), bytes(bytes_now));
  setText(byId("full-bytes"), bytes(bytes_full_cache));
  byId("held-bar").style.transform = `scaleX(${bytes_now / most})`;
  byId("full-bar").style.transform = `scaleX(${bytes_full_cache / most})`;
  allocated = bytes_allocated;
  drawServer();

  showLayers(slot.layers ?? []);
  showText({ pieces: slot.pieces, held: slot.held ?? [], layers: slot.n_layer });
};

let allocated = 0, server = null;
const drawServer = () => setText(byId("server-memory"), [
  allocated > 0 ? `${bytes(allocated)} are set aside for this conversation.` : "",
  server === null ? "" : `All conversations together hold ${bytes(server.bytes_now)} of at most ${bytes(server.bytes_bound)}.`,
].filter((s) => s !== "").join(" "));
const showServer = async () => {
  try {
    server = (await askJson("slots")).kv;
    drawServer();
  } catch { /* this line of text is then not updated */ }
};

const showLayers = (layers) => {
  const rows = byId("layers").tBodies[0];
  while (rows.children.length > layers.length) rows.lastChild.remove();
  while (rows.children.length < layers.length) {
    const bar = make("div", { className: "bar" }, make("div"));
    bar.setAttribute("aria-hidden", "true");
    rows.append(make("tr", {}, make("th", { scope: "row" }), make("td", {}, bar), make("td")));
  }
  const may = (layer) => layer.window > 0 ? layer.window : layer.budget;
  const most = Math.max(1, ...layers.map((layer) => Math.max(may(layer), layer.kept)));
  layers.forEach((layer, i) => {
    const [name, cell, numbers] = rows.children[i].children;
    const bar = cell.firstChild, whole = Math.max(may(layer), layer.kept);
    rows.children[i].className = layer.window > 0 ? "window" : "";
    setText(name, `layer ${layer.layer}`);
    bar.style.width = `${100 * whole / most}%`;
    bar.firstChild.style.transform = `scaleX(${whole > 0 ? layer.kept / whole : 0})`;
    bar.hidden = whole === 0;
    setText(numbers, whole === 0 ? "not read yet" : count(layer.kept)
      + (may(layer) > 0 ? ` of ${count(may(layer))}` : "") + (layer.window > 0 ? " (window)" : ""));
  });
};

// Shows the completion that was shown before a reload.
export const showAgain = async () => {
  const figures = chat.shown;
  if (figures === null) return;
  try {
    const slot = await askSlot(figures.id, true);
    if (chat.shown !== figures) return;
    showSlot(slot, figures, null);
    showServer();
  } catch (error) {
    if (error.status === 404 && chat.shown === figures) showNothing(GONE);
  }
};
