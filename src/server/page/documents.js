// Reads files as documents of a message.

import { bytes } from "./format.js";

const LARGEST_BYTES = 30 << 20;  // the server accepts requests of up to 32 MiB

// Returns {name, text}, or {problem} with a sentence.
const readFile = async (file) => {
  let data;
  try {
    data = new Uint8Array(await file.arrayBuffer());
  } catch {
    return { problem: `${file.name} could not be read: is it a folder?` };
  }
  if (data.length === 0) return { problem: `${file.name} is empty.` };
  if (data.includes(0)) return { problem: `${file.name} is not a text file: save its text in UTF-8, then add that.` };
  try {
    return { name: file.name, text: new TextDecoder("utf-8", { fatal: true }).decode(data) };
  } catch {
    return { problem: `${file.name} is not in UTF-8: save it in that encoding, then add it again.` };
  }
};

// Reads files that may have `LARGEST_BYTES` together with the documents so far. Returns {documents, problems}.
export const readFiles = async (files, documents) => {
  const read = [], problems = [];
  let left = LARGEST_BYTES - documents.reduce((sum, { text }) => sum + new Blob([text]).size, 0);
  for (const file of files) {
    if (file.size > left) {
      problems.push(`${file.name} has ${bytes(file.size)}: the documents of a message may have ${bytes(LARGEST_BYTES)} `
        + "together.");
      continue;
    }
    const { problem, ...document } = await readFile(file);
    if (problem) {
      problems.push(problem);
      continue;
    }
    read.push(document);
    left -= file.size;
  }
  return { documents: read, problems };
};
