// Values that the browser keeps: for good (localStorage), or as long as the tab is open (sessionStorage).

const PREFIX = "cake:";

const reader = (name) => (key) => {
  try { return JSON.parse(window[name].getItem(PREFIX + key)); } catch { return null; }
};
// Stores a value and returns the reason if that fails: "full" or "forbidden". The stored value is then the one before.
const writer = (name) => (key, value) => {
  try {
    window[name].setItem(PREFIX + key, JSON.stringify(value));
    return null;
  } catch (error) {
    return error.name === "QuotaExceededError" ? "full" : "forbidden";
  }
};
export const stored = reader("localStorage"), store = writer("localStorage");
export const storedInTab = reader("sessionStorage"), storeInTab = writer("sessionStorage");

export const forget = (key) => {
  try { localStorage.removeItem(PREFIX + key); } catch { /* then nothing is stored */ }
};
export const storedKeys = (beginning) => {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX + beginning)).map((key) => key.slice(PREFIX.length));
  } catch {
    return [];
  }
};

// Calls `then` when another tab has stored a value or removed it.
export const whenStoredElsewhere = (then) => addEventListener("storage", (event) => {
  if (event.key?.startsWith(PREFIX)) then(event.key.slice(PREFIX.length));
});
