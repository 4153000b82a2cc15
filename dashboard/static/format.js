// Values as people read them.

const numbers = new Intl.NumberFormat("en");
const rates = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const number = (value) => (value == null ? "–" : numbers.format(value));
export const rate = (value) => rates.format(value);
export const time = (seconds) => clock.format(seconds * 1000);

export function precise(seconds) {
  return `${time(seconds)}.${String(Math.floor((seconds % 1) * 1000)).padStart(3, "0")}`;
}

export function duration(seconds) {
  if (seconds < 0) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export const ago = (seconds) => (seconds < 1 ? "just now" : `${duration(Math.floor(seconds)).replace(".0", "")} ago`);

// A message may hold anything. What cannot be seen, and what makes text pose as other text by
// turning its direction, is shown by name; the element around it isolates the rest.
export function message(text) {
  return text
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g,
      (c) => `[U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
}

// Counters may be larger than what a double holds.
export const before = (counter) => (typeof counter === "bigint" ? counter - 1n : counter - 1);
