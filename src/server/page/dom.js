// Helpers for all parts of the page. Text of users and models is inserted only as text nodes.

export const byId = (id) => document.getElementById(id);
export const make = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
};
export const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };
export const setRows = (dl, rows) => {  // each row is a name and a text
  while (dl.children.length > 2 * rows.length) dl.lastChild.remove();
  while (dl.children.length < 2 * rows.length) dl.append(make("dt"), make("dd"));
  rows.flat().forEach((text, i) => setText(dl.children[i], text));
};
export const announce = (text) => { byId("announcement").textContent = text; };  // for screen readers

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
export const now = () => performance.now() / 1000;
