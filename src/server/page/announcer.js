// Tells screen readers about an answer that is being written.

import { announce, now } from "./dom.js";

const PAUSE_SECONDS = 4;

// Returns a function that announces the whole sentences of a growing text, at most every few seconds.
export const announcer = () => {
  let said = 0, when = -Infinity;
  return (text, ended) => {
    if (!ended && now() - when < PAUSE_SECONDS) return;
    const end = ended ? text.length : Math.max(...[". ", "! ", "? ", "\n", "。"].map((mark) => text.lastIndexOf(mark))) + 1;
    if (end <= said) return;
    announce(text.slice(said, end));
    said = end;
    when = now();
  };
};
