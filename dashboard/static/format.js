// Values as people read them. Times are those of the reader's own zone, which the page names.

const numbers = new Intl.NumberFormat("en");
const rates = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => (value == null ? "–" : numbers.format(value));
export const rate = (value) => rates.format(value);

const two = (value) => String(value).padStart(2, "0");

// As 2026-01-31 23:59:59.
export function date(seconds) {
  const at = new Date(seconds * 1000);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

// The time of day; of another day than today, the day as well.
export function time(seconds) {
  const text = date(seconds);
  return text.slice(0, 10) === date(Date.now() / 1000).slice(0, 10) ? text.slice(11) : text;
}

export const precise = (seconds) => `${time(seconds)}.${String(Math.floor((seconds % 1) * 1000)).padStart(3, "0")}`;

// As UTC+05:30.
export function zone(at = new Date()) {
  const minutes = -at.getTimezoneOffset();
  const off = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(off / 60))}:${two(off % 60)}`;
}

export const full = (seconds) => `${date(seconds)} ${zone(new Date(seconds * 1000))}`;

export function duration(seconds) {
  if (seconds < 0) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export const ago = (seconds) => (seconds < 1 ? "just now" : `${duration(Math.floor(seconds)).replace(".0 s", " s")} ago`);

const name = (c) => `[U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;

// A message may hold anything. What cannot be seen, and what makes text pose as other text by
// turning its direction, is shown by name; the element around it isolates the rest. A message of
// nothing but blanks would look empty: it is shown by name as a whole.
export function message(text) {
  if (text && !/[^\p{Z}\p{Cf}\p{Cc}\p{M}\u115f\u1160\u2800\u3164\uffa0]/u.test(text)) return text.replace(/[^]/gu, name);
  return text
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u00ad\u115f\u1160\u180e\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu, name);
}

// Counters may be larger than what a double holds.
export const before = (counter) => (typeof counter === "bigint" ? counter - 1n : counter - 1);
