// The page of the server: a conversation, and beside it what the model holds of the text. Text of users and models only
// ever becomes text nodes.

const byId = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
};
const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const count = (n) => Math.round(n).toLocaleString("en");
const many = (n, thing) => `${count(n)} ${thing}${n === 1 ? "" : "s"}`;
const rate = (n) => n < 100 ? n.toFixed(1) : count(n);
const bytes = (n) => {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit + 1 < units.length) { n /= 1024; unit++; }
  return `${unit === 0 ? n : n.toFixed(n < 10 ? 2 : n < 100 ? 1 : 0)} ${units[unit]}`;
};
const percent = (share) => share > 0 && share < 0.01 ? "under 1\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
const seconds = (s) => s < 9.95 ? `${s.toFixed(1)} s` : s < 59.5 ? `${Math.round(s)} s`
  : s < 3600 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.round(s % 3600 / 60)} min`;
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const now = () => performance.now() / 1000;

// What outlives a reload, where it fits.
const stored = (name) => {
  try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; }
};
const store = (name, value) => {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    try { sessionStorage.removeItem(name); } catch { /* no storage at all: a reload begins anew */ }
  }
};

// ---- The server ----

let key = stored("key") ?? "";

class ServerError extends Error {
  constructor(status, { message, code }) {
    super(message || `the server answered with status ${status}`);
    this.status = status;
    this.busy = code === "overloaded" || status === 429 || (status === 503 && !message);
  }
}

const ask = async (path, options = {}) => {
  const headers = { ...options.headers, ...(key === "" ? {} : { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { cache: "no-store", ...options, headers });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new ServerError(response.status, said?.error ?? {});
};
const askJson = async (path) => (await ask(path)).json();

// One sentence that says what is wrong, and what would work.
const explain = (error) => {
  if (!(error instanceof ServerError)) {
    return error instanceof TypeError ? "The server cannot be reached: is it still running?" : `${error.message || error}`;
  }
  if (error.status === 401) return "The server asks for an API key: type it into the field below.";
  if (error.busy) return "The server is busy: try again in a moment.";
  return error.message[0].toUpperCase() + error.message.slice(1) + (/[.!?]$/.test(error.message) ? "" : ".");
};

// The data of server-sent events, whose borders need not be those of chunks.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (let line of lines) {
      if (line.endsWith("\r")) line = line.slice(0, -1);
      if (line === "") {
        if (data.length > 0) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(line[5] === " " ? 6 : 5));
      }  // comments begin with ":", and no other field is of interest
    }
  }
}

// ---- The conversation ----

// {role: "user", text, documents: [{name, text}]} or {role: "assistant", text, note, error}
let turns = stored("turns") ?? [];
let shown = stored("shown");  // the completion whose memory is shown: {id, prompt, cached, first, speed, answer}
let running = null;           // {abort, over} of the request in flight
const STORED_CHARACTERS = 4e6;  // browsers take about 5 million
const save = () => {
  const size = turns.reduce((sum, turn) => sum + content(turn).length, 0);
  const fits = size <= STORED_CHARACTERS;
  store("turns", fits ? turns.map(({ role, text, documents, note, error }) => ({ role, text, documents, note, error })) : []);
  store("shown", fits ? shown : null);
};

// Documents stand first and the question last: cake judges what to keep by the last words that it reads.
const content = ({ text, documents = [] }) => [...documents.map((d) => d.text), text].filter((t) => t !== "").join("\n\n");

// A question whose answer failed is joined with the next one, as models expect that roles take turns.
const messages = () => {
  const list = [];
  for (const turn of turns) {
    const text = content(turn);
    if (text === "") continue;
    if (list.at(-1)?.role === turn.role) list.at(-1).content += `\n\n${text}`;
    else list.push({ role: turn.role, content: text });
  }
  return list;
};

const list = byId("messages"), composer = byId("composer");
const panes = matchMedia("(min-width: 54rem) and (min-height: 30rem)");

// Code between lines of ``` stands in a block of its own.
const blocks = (text) => {
  const found = [];
  let lines = [], code = false;
  const end = () => {
    const part = lines.join("\n");
    if (part.trim() !== "") found.push({ code, text: code ? part : part.replace(/^\n+|\n+$/g, "") });
    lines = [];
  };
  for (const line of text.split("\n")) {
    if (!/^ {0,3}```/.test(line)) { lines.push(line); continue; }
    end();
    code = !code;
  }
  end();
  return found;
};

const drawText = (node, text) => {
  const found = blocks(text);
  found.forEach((block, i) => {
    const tag = block.code ? "PRE" : "DIV";
    if (node.children[i]?.tagName !== tag) {
      while (node.children.length > i) node.lastChild.remove();
      node.append(make(tag, { className: block.code ? "" : "plain" }));
    }
    setText(node.children[i], block.text);
  });
  while (node.children.length > found.length) node.lastChild.remove();  // a last line of two ` becomes one of three
};

const drawTurn = (turn) => {
  const node = make("li", { className: turn.role });
  turn.node = node;
  if (turn.role === "user") {
    node.append(make("h3", { className: "unseen", textContent: "Question" }));
    if (turn.documents.length > 0) {
      node.append(make("ul", { className: "documents" }, ...turn.documents.map((d) => make("li", {},
        make("span", { className: "name", textContent: d.name }), make("span", { className: "size", textContent: sizeOf(d) })))));
    }
    node.append(make("div", { className: "plain", textContent: turn.text }));
  } else {
    node.append(make("h3", { className: "unseen", textContent: "Answer" }), make("div", { className: "answer" }),
      make("p", { className: "state", hidden: true }), make("p", { className: "error", hidden: true }),
      make("div", { className: "actions" }));
    drawAnswer(turn);
  }
  list.append(node);
};

const drawAnswer = (turn) => {
  const [, answer, state, error, actions] = turn.node.children;
  drawText(answer, turn.text);
  const waiting = turn.waiting ?? turn.note ?? "";
  setText(state, waiting);
  state.hidden = waiting === "";
  setText(error, turn.error ?? "");
  error.hidden = !turn.error;
  const last = turn === turns.at(-1) && running === null;
  if (!last) actions.textContent = "";
  else if (actions.children.length === 0) actions.append(make("button", { type: "button", onclick: again }));
  if (last) {
    actions.firstChild.id = "again";
    setText(actions.firstChild, turn.error ? "Try again" : "Answer again");
  }
};

// Keeps the end of the answer in sight, unless the reader has scrolled away from it.
const below = () => list.getBoundingClientRect().bottom - byId("foot").getBoundingClientRect().top + 16;
const toEnd = () => {
  if (below() > 0) (panes.matches ? byId("chat") : document.scrollingElement).scrollBy({ top: below(), behavior: "instant" });
};
let footHeight = 0;
new ResizeObserver(() => {
  const grown = byId("foot").offsetHeight - footHeight;
  footHeight += grown;
  if (grown > 0 && below() - grown < 80) toEnd();
}).observe(byId("foot"));
const drawAndFollow = (turn) => {
  const follows = below() < 80;
  drawAnswer(turn);
  if (follows) toEnd();
};

const drawConversation = () => {
  list.textContent = "";
  turns.forEach(drawTurn);
  byId("empty").hidden = turns.length > 0;
};

const showRunning = () => {
  byId("send").hidden = running !== null;
  byId("stop").hidden = running === null;
};

// Said to those who do not see it: whole sentences, at most every few seconds.
const announcer = () => {
  let said = 0, when = -Infinity;
  return (text, ended) => {
    if (!ended && now() - when < 4) return;
    const end = ended ? text.length : Math.max(...[". ", "! ", "? ", "\n", "。"].map((mark) => text.lastIndexOf(mark))) + 1;
    if (end <= said) return;
    byId("announcement").textContent = text.slice(said, end);
    said = end;
    when = now();
  };
};

// ---- A request ----

const number = (id) => byId(id).value === "" ? undefined : Number(byId(id).value);
const settings = () => ({
  kv_budget: number("kv-budget"), policy: byId("policy").value.trim() || undefined, temperature: number("temperature"),
  top_p: number("top-p"), max_tokens: number("max-tokens"),
});
const SETTINGS = ["kv-budget", "policy", "temperature", "top-p", "max-tokens"];

// Asks for an answer to the turns so far.
const request = async () => {
  const turn = { role: "assistant", text: "", waiting: "Sent to the server…" };
  const body = { messages: messages(), stream: true, stream_options: { include_usage: true }, ...settings() };
  const abort = new AbortController();
  let finish;
  const run = { abort, over: new Promise((done) => { finish = done; }), ended: false, turn, seen: null };
  turns.forEach((t) => t.node.querySelector(".actions")?.replaceChildren());
  turns.push(turn);
  running = run;
  showRunning();
  drawTurn(turn);
  toEnd();
  save();

  const sent = now();
  let first = null, latest = null, usage = null, reason = null, done = false;
  const announce = announcer();
  byId("announcement").textContent = "The text is being read.";
  let drawn = true;
  run.draw = () => {
    if (!drawn) return;
    drawn = false;
    requestAnimationFrame(() => {
      drawn = true;
      if (run === running) drawAndFollow(turn);
    });
  };
  try {
    const response = await ask("v1/chat/completions", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: abort.signal,
    });
    for await (const data of events(response.body)) {
      if (data === "[DONE]") { done = true; break; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ServerError(null, chunk.error);
      if (run !== running) return;
      if (chunk.id && shown?.id !== chunk.id) {
        shown = { id: chunk.id };
        watch(run, shown);
      }
      usage = chunk.usage ?? usage;
      const choice = chunk.choices?.[0];
      reason = choice?.finish_reason ?? reason;
      const text = choice?.delta?.content ?? "";
      if (text === "") continue;
      latest = now();
      if (first === null) {
        first = latest;
        shown.first = first - sent;
        turn.waiting = undefined;
      }
      turn.text += text;
      run.rate = (tokens) => tokens > 1 && latest > first ? (tokens - 1) / (latest - first) : null;
      announce(turn.text, false);
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
    if (run === running) {  // else a new conversation has begun
      running = null;
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
      announce([turn.text, turn.note, turn.error].filter(Boolean).join("\n"), true);
    }
    run.ended = true;
    finish();
  }
};

const again = () => {
  if (running !== null) return;
  if (turns.at(-1)?.role === "assistant") turns.pop().node.remove();
  byId("message").focus();
  request();
};

const stop = () => running?.abort.abort();

const begin = () => {
  const run = running;
  running = null;
  run?.abort.abort();
  turns = [];
  shown = null;
  documents = [];
  save();
  drawConversation();
  drawDocuments();
  showRunning();
  showNothing("What the model holds of the text, layer by layer, is shown here when you have asked something.");
  note("");
  byId("announcement").textContent = "A new conversation.";
  byId("message").focus();
};

const askForKey = () => {
  byId("key-form").hidden = false;
  byId("key").focus();
};

// ---- The message box ----

const DOCUMENT_CHARACTERS = 2000;  // what is longer is an attachment
const LARGEST_FILE_BYTES = 64 << 20;
const box = byId("message");
let documents = [];

const sizeOf = ({ text }) => bytes(new Blob([text]).size);
const note = (text) => {
  setText(byId("note"), text);
  byId("note").hidden = text === "";
};

const drawDocuments = () => {
  byId("documents").hidden = documents.length === 0;
  byId("documents").replaceChildren(...documents.map((d) => {
    const remove = make("button", { type: "button", textContent: "Remove", onclick: () => {
      documents = documents.filter((other) => other !== d);
      drawDocuments();
      box.focus();
    } });
    remove.setAttribute("aria-label", `Remove ${d.name}`);
    return make("li", {}, make("span", { className: "name", textContent: d.name }),
      make("span", { className: "size", textContent: sizeOf(d) }), remove);
  }));
  box.placeholder = documents.length > 0 ? "What would you like to know about it?" : "Ask something";
};

const fit = () => {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;  // with its border
};

const addText = (name, text) => {
  if (text.length > DOCUMENT_CHARACTERS) {
    documents.push({ name, text });
    drawDocuments();
    byId("announcement").textContent = `${name} is attached.`;
  } else {
    box.setRangeText(text, box.selectionStart, box.selectionEnd, "end");
    fit();
  }
};

// What is wrong with a file, or nothing when it was added.
const addFile = async (file) => {
  if (file.size > LARGEST_FILE_BYTES) {
    return `${file.name} has ${bytes(file.size)}: the largest file that this page takes is ${bytes(LARGEST_FILE_BYTES)}.`;
  }
  let data, text;
  try {
    data = new Uint8Array(await file.arrayBuffer());
  } catch {
    return `${file.name} could not be read: is it a folder?`;
  }
  if (data.length === 0) return `${file.name} is empty.`;
  if (data.includes(0)) return `${file.name} is not a text file: save its text in UTF-8, then add that.`;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    return `${file.name} is not in UTF-8: save it in that encoding, then add it again.`;
  }
  addText(file.name, text);
  return "";
};
const addFiles = async (files) => {
  const problems = [];
  for (const file of files) problems.push(await addFile(file));
  note(problems.filter((p) => p !== "").join(" "));
  box.focus();
};

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running !== null) return;
  if (!composer.checkValidity()) {
    byId("settings").open = true;  // a field in a closed one cannot show what is wrong
    composer.reportValidity();
    return;
  }
  const text = box.value.trim();
  if (text === "") {
    note(documents.length > 0 ? "Type a question about the document: what to keep of it is judged by the question." : "");
    box.focus();
    return;
  }
  note("");
  byId("key-form").hidden = true;
  const turn = { role: "user", text, documents };
  turns.push(turn);
  documents = [];
  box.value = "";
  drawDocuments();
  fit();
  byId("empty").hidden = true;
  drawTurn(turn);
  box.focus();
  request();
});

box.addEventListener("input", fit);
box.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});
box.addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text/plain");
  if (event.clipboardData.files.length > 0 && text === "") {
    event.preventDefault();
    addFiles([...event.clipboardData.files]);
  } else if (text.length > DOCUMENT_CHARACTERS) {
    event.preventDefault();
    addText("Pasted text", text);
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) stop();
});
byId("stop").addEventListener("click", () => { stop(); box.focus(); });
byId("new").addEventListener("click", begin);
byId("add").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", async () => {
  await addFiles([...byId("file").files]);
  byId("file").value = "";  // so that the same file can be chosen again
});

let dropEnds = 0;
addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  byId("drop").hidden = false;
  clearTimeout(dropEnds);
  dropEnds = setTimeout(() => { byId("drop").hidden = true; }, 200);  // no event tells reliably that it left
});
addEventListener("drop", (event) => {
  byId("drop").hidden = true;
  const { files } = event.dataTransfer, text = event.dataTransfer.getData("text/plain");
  if (files.length === 0 && text.length <= DOCUMENT_CHARACTERS) return;  // the browser knows how to move a word
  event.preventDefault();
  if (files.length > 0) addFiles([...files]);
  else addText("Dropped text", text);
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  store("key", key);
  byId("key-form").hidden = true;
  box.focus();
  greet();
  if (turns.at(-1)?.error) again();
});

// ---- Where the cake goes ----

const POLL_MS = 500, POLL_LONG_MS = 2000, LONG_TOKENS = 20000;

// Looks at a completion until its request has ended, and once more then.
const watch = async (run, figures) => {
  let piecesOf = -1, start = null;
  for (;;) {
    const last = run.ended;
    let slot = null;
    try {
      slot = await askJson(`slots/${encodeURIComponent(figures.id)}${last ? "?pieces=1" : ""}`);
      if (!last && slot.prompt_tokens !== piecesOf) {
        slot = await askJson(`slots/${encodeURIComponent(figures.id)}?pieces=1`);
        piecesOf = slot.prompt_tokens;
      }
    } catch (error) {
      if (error.status === 404 && shown === figures) return showNothing("This text is no longer in the server's memory.");
    }
    if (shown !== figures) return;  // another one is shown now
    if (last) slot ??= run.seen;    // the server is gone
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

const showNothing = (why) => {
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
  } catch { /* it is only a line of text */ }
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

// ---- The text, shaded by the number of layers that hold each token ----

const MOST_PASSAGES = 3000, PART_TOKENS = 250, LONGEST_PART = 1000, SLICE_MS = 6;
const view = byId("text");
let passages = [];  // {node, begin, end, level} of the tokens in view
let holding = { held: [], layers: 0 };
let wanted = null, working = false, here = -1, under = -1;  // where the arrow keys are, and the pointer

// 0: no layer, 1 to 4: a quarter of them each, 5: all.
const levelOf = (held, layers) => held <= 0 ? 0 : held >= layers ? 5 : Math.ceil(4 * held / layers);
const LEVELS = ["no layer", "up to ¼", "up to ½", "up to ¾", "most", "all layers"];
byId("legend").append(...LEVELS.map((name, level) => {
  const item = make("li", { textContent: name });
  item.dataset.level = level;
  return item;
}));

const idle = () => new Promise((done) => window.requestIdleCallback ? requestIdleCallback(done, { timeout: 400 }) : setTimeout(done, 16));
const inSlices = async (steps) => {
  await idle();
  let end = performance.now() + SLICE_MS;
  for (const _ of steps) {
    if (performance.now() < end) continue;
    await idle();
    end = performance.now() + SLICE_MS;
  }
};

// Only the newest is drawn; what came while drawing waits, and its pieces are not lost.
const showText = async (next) => {
  wanted = { ...next, pieces: next.pieces ?? wanted?.pieces };
  if (working) return;
  working = true;
  while (wanted !== null) {
    const { pieces, held, layers } = wanted;
    wanted = null;
    if (pieces !== undefined) await inSlices(build(pieces));
    holding = { held, layers };
    await inSlices(shade(held, layers));
    summarize(held, layers);
    drawPassage();
  }
  working = false;
};

// Paragraphs stand in parts of their own, which the browser need not lay out before they come into sight.
function* build(pieces) {
  const size = pieces.length > LONG_TOKENS ? Math.ceil(pieces.length / MOST_PASSAGES) : 1;
  const parts = document.createDocumentFragment(), built = [];
  let part = null, tokens = 0;
  for (let begin = 0; begin < pieces.length; begin += size) {
    const end = Math.min(begin + size, pieces.length);
    const text = pieces.slice(begin, end).join("");
    const node = make("span", { textContent: text });
    node.dataset.passage = built.length;
    if (part === null) parts.append(part = make("div"));
    part.append(node);
    built.push({ node, begin, end, level: -1 });
    tokens += end - begin;
    if ((tokens >= PART_TOKENS && text.endsWith("\n")) || tokens >= LONGEST_PART * Math.max(1, size / 4)) {
      part = null;
      tokens = 0;
    }
    yield;
  }
  const top = view.scrollTop;
  view.replaceChildren(parts);
  view.scrollTop = top;
  passages = built;
  here = under = -1;
}

const mean = (held, { begin, end }) => {
  let sum = 0;
  for (let i = begin; i < end; i++) sum += held[i] ?? 0;
  return sum / (end - begin);
};

function* shade(held, layers) {
  for (const passage of passages) {
    const level = levelOf(mean(held, passage), layers);
    if (level !== passage.level) passage.node.dataset.level = passage.level = level;
    yield;
  }
}

const summarize = (held, layers) => {
  const some = held.reduce((n, h) => n + (h > 0), 0), all = held.reduce((n, h) => n + (h >= layers), 0);
  setText(byId("held-summary"), held.length === 0 ? "" : `${percent(some / held.length)} of ${many(held.length, "token")} are still held `
    + `by some layer, ${percent(all / held.length)} by all ${layers} layers.`);
};

// A passage in words.
const PASSAGE_HINT = "Point at a word, or use the keys ← and →.";
const describe = (i) => {
  const passage = passages[i];
  if (passage === undefined) return PASSAGE_HINT;
  const { held, layers } = holding;
  const m = mean(held, passage);
  if (passage.end - passage.begin > 1) {
    return `Tokens ${count(passage.begin)} to ${count(passage.end - 1)}: ${m.toFixed(1)} of ${layers} layers on average.`;
  }
  return `Token ${count(passage.begin)}: held by ${m === 0 ? "none" : count(m)} of ${many(layers, "layer")}.`;
};
const drawPassage = () => setText(byId("passage"), describe(under === -1 ? here : under));
const point = (i) => {
  if (i !== here) {
    passages[here]?.node.classList.remove("here");
    passages[i]?.node.classList.add("here");
    here = i;
  }
  drawPassage();
};
const passageOf = (event) => Number(event.target.closest?.("[data-passage]")?.dataset.passage ?? -1);
view.addEventListener("pointermove", (event) => {
  under = passageOf(event);
  drawPassage();
});
view.addEventListener("pointerleave", () => {
  under = -1;
  drawPassage();
});
view.addEventListener("click", (event) => { if (passageOf(event) !== -1) point(passageOf(event)); });
view.addEventListener("keydown", (event) => {
  const to = { ArrowRight: here + 1, ArrowLeft: Math.max(0, here - 1), Home: 0, End: passages.length - 1 }[event.key];
  if (to === undefined || passages.length === 0 || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  under = -1;
  point(Math.min(to, passages.length - 1));
  passages[here].node.scrollIntoView({ block: "nearest" });
});

// ---- The beginning ----

const greet = async () => {
  try {
    const name = (await askJson("v1/models")).data?.[0]?.id ?? "";
    setText(byId("model"), name);
    document.title = name === "" ? "cake" : `cake: ${name}`;
  } catch (error) {
    if (error.status === 401) askForKey();
  }
};

for (const id of SETTINGS) {
  byId(id).value = stored("settings")?.[id] ?? "";
  byId(id).addEventListener("change", () => store("settings", Object.fromEntries(SETTINGS.map((s) => [s, byId(s).value]))));
}
addEventListener("pagehide", () => {
  if (running !== null) {
    running.turn.note = "Stopped.";
    running.turn.waiting = undefined;
  }
  save();
});

drawConversation();
toEnd();
setText(byId("passage"), PASSAGE_HINT);
greet();
if (shown !== null) {
  const figures = shown;
  askJson(`slots/${encodeURIComponent(figures.id)}?pieces=1`).then((slot) => {
    if (shown !== figures) return;
    showSlot(slot, figures, null);
    showServer();
  }).catch((error) => {
    if (error.status === 404 && shown === figures) showNothing("This text is no longer in the server's memory.");
  });
}
