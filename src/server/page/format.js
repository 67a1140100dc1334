// Formats numbers for display.

export const count = (n) => Math.round(n).toLocaleString("en");
export const many = (n, thing) => `${count(n)} ${thing}${n === 1 ? "" : "s"}`;
export const rate = (n) => n < 100 ? n.toFixed(1) : count(n);
export const bytes = (n) => {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit + 1 < units.length) { n /= 1024; unit++; }
  return `${unit === 0 ? n : n.toFixed(n < 10 ? 2 : n < 100 ? 1 : 0)} ${units[unit]}`;
};
export const percent = (share) => share > 0 && share < 0.01 ? "under 1\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
export const seconds = (s) => s < 9.95 ? `${s.toFixed(1)} s` : s < 59.5 ? `${Math.round(s)} s`
  : s < 3600 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.round(s % 3600 / 60)} min`;
export const sizeOf = (text) => bytes(new Blob([text]).size);
