// Who served the latest request, and the figures beside it.

import { badge, find, write } from "./dom.js";
import { ago, message, number } from "./format.js";

const root = find("#serving");

export function serving(store) {
  const latest = store.requests[0];
  root.classList.toggle("empty", !latest);
  if (!latest) return write(find(".nothing", root), store.servers.database?.seen ? "Nothing was served yet." : "Not known yet.");
  const slot = store.slots.get(latest.served_by) ?? 0;
  root.dataset.colour = slot % 8;
  find(".badge", root).replaceWith(badge(slot));
  write(find(".name", root), latest.served_by);
  write(find(".counter", root), number(latest.counter));
  write(find(".message", root), message(latest.message) || "(empty message)");
  tell(latest, store);
}

// Time passes between the answers too.
export function tick(store) {
  const latest = store.requests[0];
  if (latest) tell(latest, store);
}

export function figures(store) {
  const queue = store.queue;
  const known = queue && store.servers.broker?.seen;
  for (const [id, value] of [["ready", queue?.ready], ["in-hand", queue?.in_hand], ["consumers", queue?.consumers], ["dead", queue?.dead]]) {
    const element = find(`#${id}`);
    write(element, number(value));
    element.parentElement.classList.toggle("stale", !known);
  }
  find("#dead").parentElement.classList.toggle("alert", queue?.dead > 0);
  find("#consumers").parentElement.classList.toggle("alert", queue?.consumers === 0);
}

function tell(latest, store) {
  write(find(".when", root), `for ${latest.client}, ${ago(Math.max(0, store.clock() - latest.served_at))}`);
}
