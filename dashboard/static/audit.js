// The audit's word, by client.

import { find, make, write } from "./dom.js";
import { before, number, time } from "./format.js";

const GRACE = 10; // seconds for which a missing counter is taken to be in a replica's hand
const root = find("#audit");
const body = find("tbody", root);
let drawn = "";

export function audit(store) {
  const found = store.audit;
  const server = store.servers.audit;
  const problem = find(".problem", root);
  problem.hidden = !server || server.seen;
  if (!problem.hidden) write(problem, `Not audited since ${time(server.since)}${store.servers.database?.seen ? `: ${server.problem}` : ", as the database is away."}`);
  if (!found) return;
  const lost = found.clients.filter((client) => store.clock() - client.gap_since > GRACE && client.missing);
  write(find(".verdict", root), verdict(found, lost));
  root.classList.toggle("bad", Boolean(lost.length || found.repeated));
  const wanted = JSON.stringify([found, lost], plain);
  if (wanted !== drawn) {
    drawn = wanted;
    body.replaceChildren(...found.clients.map((client) => row(client, lost.includes(client))));
  }
  const more = find(".more", root);
  more.hidden = found.count <= found.clients.length;
  write(more, `and ${number(found.count - found.clients.length)} more clients, counted above`);
}

function verdict(found, lost) {
  if (!found.count) return "Nothing to account for yet.";
  if (found.repeated) return `✕ ${number(found.repeated)} repeated`;
  if (lost.length) return `✕ ${number(found.missing)} missing`;
  const hand = found.missing ? `; ${number(found.missing)} on the way` : "";
  return `✓ ${number(found.served)} served, each once${hand}`;
}

function row(client, lost) {
  const cell = (value) => make("td", {}, number(value));
  const missing = make("td", {}, number(client.missing));
  if (client.missing) {
    const gaps = client.gaps.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
    missing.append(" ", make("small", {}, lost ? `✕ ${gaps}, since ${time(client.gap_since)}` : "on the way"));
  }
  return make("tr", { class: lost || client.repeated ? "bad" : false },
    make("th", { scope: "row" }, client.client), cell(before(client.resume_at)), cell(client.served),
    missing, cell(client.repeated), cell(client.resume_at));
}

const plain = (_key, value) => (typeof value === "bigint" ? String(value) : value);
