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
  const lost = missing(store);
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

// Those who miss something that no replica can still hold.
export const missing = (store) => (store.audit?.clients ?? []).filter((client) => store.clock() - client.gap_since > GRACE && client.missing);

function verdict(found, lost) {
  if (!found.count) return "Nothing to account for yet.";
  if (found.repeated) return `✕ ${number(found.repeated)} repeated`;
  if (lost.length) return `✕ ${number(found.missing)} missing`;
  const hand = found.missing ? `; ${number(found.missing)} on the way` : "";
  const failed = found.failed ? `; ${number(found.failed)} failed` : "";
  return `✓ ${number(found.served)} served, each once${failed}${hand}`;
}

function row(client, lost) {
  const cell = (name, value) => make("td", { role: "cell", "data-name": name }, number(value));
  const gaps = cell("missing", client.missing);
  if (client.missing) {
    const shown = client.gaps.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
    gaps.append(" ", make("small", {}, lost ? `✕ ${shown}, since ${time(client.gap_since)}` : "on the way"));
  }
  return make("tr", { role: "row", class: lost || client.repeated ? "bad" : false },
    make("th", { role: "rowheader", scope: "row" }, make("a", { href: `requests?client=${client.client}` }, client.client)),
    cell("without a gap up to", before(client.resume_at)), cell("served", client.served),
    cell("failed", client.failed), gaps, cell("repeated", client.repeated), cell("resumes at", client.resume_at));
}

const plain = (_key, value) => (typeof value === "bigint" ? String(value) : value);
