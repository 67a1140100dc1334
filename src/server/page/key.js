// The field for the API key, if the server requires one.

import { useKey } from "./api.js";
import { byId } from "./dom.js";

const form = byId("key-form");

export const askForKey = () => {
  form.hidden = false;
  byId("key").focus();
};
export const hideKey = () => { form.hidden = true; };

export const whenKeyIsGiven = (then) => form.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  hideKey();
  then();
});
