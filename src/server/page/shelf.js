// The documents that the server has read already. A conversation may be about one of them.

import { chat } from "./chat.js";
import { byId } from "./dom.js";
import { many } from "./format.js";
import { properties } from "./properties.js";

const select = byId("about");
const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });

// Shows what the open conversation is about. It can be chosen until something has been asked.
export const showShelf = () => {
  const { about, turns } = chat.open, { documents } = properties;
  const isGone = about !== "" && documents.every(({ id }) => id !== about);
  byId("about-label").hidden = documents.length === 0 && !isGone;
  select.replaceChildren(option("", "no saved document"),
    ...documents.map(({ id, n_tokens }) => option(id, `${id} (${many(n_tokens, "token")})`)),
    ...isGone ? [option(about, about)] : []);
  select.value = about;
  select.disabled = turns.length > 0;
};

select.addEventListener("change", () => { chat.open.about = select.value; });
