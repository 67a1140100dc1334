// Values that survive a reload, if there is enough storage.

export const stored = (name) => {
  try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; }
};
export const store = (name, value) => {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    try { sessionStorage.removeItem(name); } catch { /* no storage: a reload starts from scratch */ }
  }
};
