// Shows the memory for keys and values.

import { askJson } from "./api.js";
import { byId, setText } from "./dom.js";
import { bytes, percent } from "./format.js";

let allocated = 0, server = null;

const drawServer = () => setText(byId("server-memory"), [
  allocated > 0 ? `${bytes(allocated)} are set aside for this conversation.` : "",
  server === null ? "" : `All conversations together hold ${bytes(server.bytes_now)} of at most ${bytes(server.bytes_bound)}.`,
].filter((s) => s !== "").join(" "));

export const showServerMemory = async () => {
  try {
    server = (await askJson("slots")).kv;
    drawServer();
  } catch { /* this line of text is then not updated */ }
};

// Shows the memory of a sequence, as /slots/ID reports it.
export const showMemory = ({ bytes_now, bytes_allocated, bytes_full_cache }) => {
  const most = Math.max(1, bytes_now, bytes_full_cache);
  byId("memory-bars").hidden = false;
  setText(byId("memory-ratio"), bytes_full_cache > 0
    ? `${bytes(bytes_now)} instead of ${bytes(bytes_full_cache)}: ${percent(bytes_now / bytes_full_cache)}` : "Nothing is held yet.");
  setText(byId("held-bytes"), bytes(bytes_now));
  setText(byId("full-bytes"), bytes(bytes_full_cache));
  byId("held-bar").style.transform = `scaleX(${bytes_now / most})`;
  byId("full-bar").style.transform = `scaleX(${bytes_full_cache / most})`;
  allocated = bytes_allocated;
  drawServer();
};

export const showNoMemory = () => {
  byId("memory-bars").hidden = true;
  setText(byId("memory-ratio"), "Nothing is held yet.");
  allocated = 0;
  drawServer();
};
