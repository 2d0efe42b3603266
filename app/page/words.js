// Formatting of figures, and announcements for screen readers.

export const byId = (id) => document.getElementById(id);
export const count = (number) => (number === 1 ? "1 picture" : `${number} pictures`);
export const bytes = (number) => (number < 1e6 ? `${Math.ceil(number / 1e3)} kB` : `${(number / 1e6).toFixed(number < 1e7 ? 1 : 0)} MB`);

export function duration(seconds) {
  if (seconds < 1) return "a second";
  return seconds < 100 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

export function say(words) {
  byId("said").textContent = words;
}
