// The tabs of small screens: one pane is shown at a time.

import { byId } from "./dom.js";

const tabs = [...byId("tabs").children];

export const showPane = (name) => {
  document.body.dataset.pane = name;
  for (const tab of tabs) tab.setAttribute("aria-pressed", tab.dataset.pane === name);
};

byId("tabs").addEventListener("click", (event) => {
  if (tabs.includes(event.target)) showPane(event.target.dataset.pane);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();  // the address stays as it is
  showPane("chat");
  byId("message").focus();
});
showPane("chat");
