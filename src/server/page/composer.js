// The message box and the documents attached to it.

import { announce, byId, make, setText } from "./dom.js";
import { bytes } from "./format.js";
import { documentLabel } from "./thread.js";

const DOCUMENT_CHARACTERS = 2000;  // longer texts become attachments
const LARGEST_FILE_BYTES = 30 << 20;  // the server accepts requests of up to 32 MiB
const form = byId("composer"), box = byId("message");
let documents = [];

export const note = (text) => {
  setText(byId("note"), text);
  byId("note").hidden = text === "";
};

const setDocuments = (list) => {
  documents = list;
  byId("documents").hidden = documents.length === 0;
  byId("documents").replaceChildren(...documents.map((d) => {
    const remove = make("button", { type: "button", textContent: "Remove", ariaLabel: `Remove ${d.name}`, onclick: () => {
      setDocuments(documents.filter((other) => other !== d));
      box.focus();
    } });
    return make("li", {}, ...documentLabel(d), remove);
  }));
  box.placeholder = documents.length > 0 ? "What would you like to know about it?" : "Ask something";
};

const fit = () => {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;  // including its border
};

const addText = (name, text) => {
  if (text.length > DOCUMENT_CHARACTERS) {
    setDocuments([...documents, { name, text }]);
    announce(`${name} is attached.`);
  } else {
    box.setRangeText(text, box.selectionStart, box.selectionEnd, "end");
    fit();
  }
};

// Adds a file. Returns an error message, or nothing if it was added.
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

export const dropDocuments = () => setDocuments([]);

// Calls `then` with the message and its documents when the form is submitted, if `isFree()`.
export const whenSent = (isFree, then) => form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isFree()) return;
  if (!form.checkValidity()) {
    byId("settings").open = true;  // an invalid field in closed settings cannot show its message
    form.reportValidity();
    return;
  }
  const text = box.value.trim(), attached = documents;
  box.focus();
  if (text === "") {
    note(attached.length > 0 ? "Type a question about the document: what to keep of it is judged by the question." : "");
    return;
  }
  note("");
  dropDocuments();
  box.value = "";
  fit();
  then({ role: "user", text, documents: attached });
});

box.addEventListener("input", fit);
box.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
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
  dropEnds = setTimeout(() => { byId("drop").hidden = true; }, 200);  // no event reliably reports the end of a drag
});
addEventListener("drop", (event) => {
  byId("drop").hidden = true;
  const { files } = event.dataTransfer, text = event.dataTransfer.getData("text/plain");
  if (files.length === 0 && text.length <= DOCUMENT_CHARACTERS) return;  // the browser inserts short texts itself
  event.preventDefault();
  if (files.length > 0) addFiles([...files]);
  else addText("Dropped text", text);
});
