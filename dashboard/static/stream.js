// The requests as they were served, newest first; paused, filtered, on demand.

import { badge, find, make, write } from "./dom.js";
import { duration, full, message, number, precise, zone } from "./format.js";
import { key } from "./store.js";

const SHOWN = 50;
const root = find("#stream");
const body = find("tbody", root);
const pause = find("#pause");
const client = find("#client");
const replica = find("#replica");
const rows = new Map();
let offered = "";

let paused = null; // the requests as they were when it was paused

export function stream(store) {
  choices(store);
  const all = paused ?? store.requests;
  const filtered = client.value || replica.value;
  const chosen = all.filter((r) => (r.gap ? !filtered : matches(r))).slice(0, SHOWN);
  const wanted = chosen.map((request) => (request.gap ? gap(request) : row(request, store)));
  for (const name of rows.keys()) if (!wanted.includes(rows.get(name))) rows.delete(name);
  place(wanted);
  const nothing = find(":scope > .nothing", root);
  nothing.hidden = chosen.length > 0;
  write(nothing, all.length ? `None of the last ${number(all.length)} requests matches.` : "Nothing was served yet.");
  const fresh = paused ? store.requests.length && store.requests.findIndex((r) => r === paused[0]) : 0;
  write(find(".head .summary", root), paused ? `paused; ${fresh < 0 ? "many" : number(fresh)} newer` : "newest first");
}

export function controls(store) {
  pause.addEventListener("click", () => {
    paused = paused ? null : [...store.requests];
    pause.setAttribute("aria-pressed", String(Boolean(paused)));
    stream(store);
  });
  for (const control of [client, replica]) control.addEventListener("input", () => stream(store));
  write(find(".zone", root), `times in ${zone()}`);
}

const matches = (request) =>
  (!client.value || request.client.toLowerCase().includes(client.value.toLowerCase())) &&
  (!replica.value || request.served_by === replica.value);

function choices(store) {
  const names = store.replicas.map((each) => each.name);
  const options = [...replica.options].map((option) => option.value);
  for (const name of names) if (!options.includes(name)) replica.append(make("option", { value: name }, name));
  for (const option of [...replica.options]) {
    if (option.value && !names.includes(option.value) && !option.selected) option.remove();
  }
  const clients = [...new Set([...store.requests.filter((r) => !r.gap).map((r) => r.client), ...(store.audit?.clients ?? []).map((each) => each.client)])].slice(0, 200);
  if (clients.join() !== offered) {
    offered = clients.join();
    find("#clients").replaceChildren(...clients.map((value) => make("option", { value })));
  }
}

// Puts the rows in their order, touching only what is not where it should be.
function place(wanted) {
  const keep = new Set(wanted);
  for (const element of [...body.children]) if (!keep.has(element)) element.remove();
  wanted.forEach((element, index) => {
    if (body.children[index] !== element) body.insertBefore(element, body.children[index] ?? null);
  });
}

function gap(request) {
  const name = `gap ${request.served_at}`;
  if (!rows.has(name)) {
    rows.set(name, make("tr", { class: "gap", role: "row" }, make("td", { colspan: 7, role: "cell" }, "more requests were served here than can be shown")));
  }
  return rows.get(name);
}

function row(request, store) {
  const name = key(request);
  const known = rows.get(name);
  if (known && known.dataset.deliveries === String(request.deliveries)) return known;
  const slot = store.slots.get(request.served_by) ?? 0;
  const cell = (title, ...children) => make("td", { role: "cell", class: title }, ...children);
  const repeated = request.deliveries > 1
    ? [make("span", { class: "repeat", title: "Delivered again after a failure; recorded once." }, `↻ delivered ${request.deliveries}×`)]
    : [];
  const shown = make("bdi", {}, message(request.message));
  const rest = new TextEncoder().encode(request.message).length < request.size
    ? [make("small", {}, ` … ${number(request.size)} bytes`)] : [];
  if (!request.message) shown.append(make("small", {}, "(empty)"));
  const element = make("tr", { role: "row", "data-replica": request.served_by, "data-key": name, "data-deliveries": request.deliveries, class: known ? false : "fresh" },
    cell("counter", make("a", { href: `requests/${name}` }, number(request.counter))),
    cell("client", make("bdi", {}, request.client)),
    cell("message", shown, ...rest, ...repeated),
    cell("by", badge(slot), make("span", {}, request.served_by)),
    cell("sent", moment(request.sent_at)),
    cell("served", moment(request.served_at)),
    cell("took", duration(request.served_at - request.sent_at)));
  rows.set(name, element);
  return element;
}

const moment = (at) => make("time", { datetime: new Date(at * 1000).toISOString(), title: full(at) }, precise(at));
