// Requests to the server, and messages for its errors.

import { storeInTab, storedInTab } from "./storage.js";

let key = storedInTab("key") ?? "";
export const useKey = (given) => {
  key = given;
  storeInTab("key", key);
};

export class ServerError extends Error {
  constructor(status, { message, code }) {
    super(message || `the server answered with status ${status}`);
    this.status = status;
    this.busy = code === "overloaded" || status === 429 || (status === 503 && !message);
  }
}

export const ask = async (path, options = {}) => {
  const headers = { ...options.headers, ...(key === "" ? {} : { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { cache: "no-store", ...options, headers });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new ServerError(response.status, said?.error ?? {});
};
export const askJson = async (path) => (await ask(path)).json();
export const askSlot = (id, pieces) => askJson(`slots/${encodeURIComponent(id)}${pieces ? "?pieces=1" : ""}`);

// Describes an error in a sentence, with what would work.
export const explain = (error) => {
  if (!(error instanceof ServerError)) {
    return error instanceof TypeError ? "The server cannot be reached: is it still running?" : `${error.message || error}`;
  }
  if (error.status === 401) return "The server asks for an API key: type it into the field below.";
  if (error.busy) return "The server is busy: try again in a moment.";
  return error.message[0].toUpperCase() + error.message.slice(1) + (/[.!?]$/.test(error.message) ? "" : ".");
};

// Yields the data of each server-sent event. A chunk of the body may end in the middle of an event.
export async function* events(body) {
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
      }  // ignore comments, which begin with ":", and other fields
    }
  }
}
