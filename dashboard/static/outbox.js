// The table outbox: what waits in it, and which relay is active. Shown only where it is used.

import { find, write } from "./dom.js";
import { duration, number } from "./format.js";

const COUNTED = 10_000; // the server counts no further
const SILENT = 10; // seconds; an active relay is seen every second, and replaced after five
const root = find("#outbox");

export function outbox(store) {
  const told = store.outbox;
  root.hidden = !told?.used;
  if (root.hidden) return;
  const known = store.servers.outbox?.seen && store.servers.database?.seen;
  root.classList.toggle("alert", known && told.waiting > 0 && !active(told));
  write(find(".waiting", root), known ? waiting(told) : "not known at the moment");
  write(find(".relay", root), known ? relay(told) : "");
}

const active = (told) => told.relay !== null && told.seen_seconds < SILENT;

function waiting(told) {
  if (!told.waiting) return "nothing waits";
  const count = `${told.waiting < COUNTED ? "" : "at least "}${number(told.waiting)}`;
  return `${count} ${told.waiting === 1 ? "waits" : "wait"}, the oldest for ${duration(told.oldest_seconds)}`;
}

function relay(told) {
  if (told.relay === null) return "no relay is active";
  if (!active(told)) return `no relay is active: ${told.relay} was last seen ${duration(told.seen_seconds)} ago`;
  return `${told.relay} relays`;
}
