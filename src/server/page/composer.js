// The message box and the documents attached to it.

import { announce, byId, make, setText } from "./dom.js";
import { readFiles } from "./documents.js";
import { areSettingsValid } from "./settings.js";
import { documentLabel } from "./thread.js";

const DOCUMENT_CHARACTERS = 2000;  // longer texts that are pasted become documents
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
  box.placeholder = documents.length === 0 ? "Ask something" : `Ask about the document${documents.length > 1 ? "s" : ""}`;
};
const addDocuments = (list) => {
  if (list.length === 0) return;
  setDocuments([...documents, ...list]);
  announce(list.length === 1 ? `${list[0].name} is attached.` : `${list.map((d) => d.name).join(", ")} are attached.`);
};

const fit = () => {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;  // including its border
};

const addFiles = async (files) => {
  const read = await readFiles(files, documents);
  addDocuments(read.documents);
  note(read.problems.join(" "));
  box.focus();
};

// What is in the box belongs to a conversation, and is put back when it is opened again.
export const draft = () => ({ text: box.value, documents });
export const putDraft = (kept) => {
  box.value = kept?.text ?? "";
  setDocuments(kept?.documents ?? []);
  note("");
  if (box.checkVisibility()) fit();
};

// Calls `then` with the message and its documents when the form is submitted, unless `refusal()` is a sentence.
export const whenSent = (refusal, then) => form.addEventListener("submit", (event) => {
  event.preventDefault();
  const reason = refusal();
  if (reason !== null) return note(reason);
  if (!areSettingsValid()) return;
  const text = box.value.trim(), attached = documents;
  box.focus();
  if (text === "") {
    note(attached.length > 0 ? "Type a question about the document: what to keep of it is judged by the question." : "");
    return;
  }
  putDraft(null);
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
    addDocuments([{ name: "Pasted text", text }]);
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
  else addDocuments([{ name: "Dropped text", text }]);
});
