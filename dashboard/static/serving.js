// Who served the latest request, and the figures beside it.

import { badge, find, write } from "./dom.js";
import { ago, message, number } from "./format.js";

const NOW = 5; // seconds for which the latest request stands for what is served now
const root = find("#serving");

export function serving(store) {
  const latest = store.requests.find((request) => !request.gap);
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
  const latest = store.requests.find((request) => !request.gap);
  if (latest) tell(latest, store);
}

export function figures(store) {
  const queue = store.queue;
  const known = queue && store.servers.broker?.seen;
  for (const [id, value] of [["ready", queue?.ready], ["in-hand", queue?.in_hand], ["consumers", queue?.consumers], ["dead", queue?.dead]]) {
    tile(id, value, !known);
  }
  tile("failures", store.failures?.waiting, !store.servers.database?.seen);
  tile("given-up", store.failures?.given_up, !store.servers.database?.seen);
  for (const id of ["dead", "given-up"]) alert(id, Number(find(`#${id}`).textContent.replace(/\D/g, "")) > 0);
  alert("consumers", queue?.consumers === 0);
}

function tile(id, value, stale) {
  const card = find(`#${id}`).closest(".card");
  const note = find(".note", card);
  note.dataset.text ??= note.textContent;
  write(find(`#${id}`), number(value));
  write(note, stale && value != null ? "last known" : note.dataset.text);
  card.classList.toggle("stale", stale);
}

const alert = (id, on) => find(`#${id}`).closest(".card").classList.toggle("alert", on);

function tell(latest, store) {
  const age = Math.max(0, store.clock() - latest.served_at);
  write(find("h1", root), age < NOW ? "Now serving" : "Served last");
  root.classList.toggle("past", age >= NOW);
  write(find(".when", root), `for ${latest.client}, ${ago(age)}`);
}
