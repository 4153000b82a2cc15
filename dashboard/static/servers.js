// What cannot be seen, and since when; also in the title of a tab that nobody looks at.

import { missing } from "./audit.js";
import { find, make, write } from "./dom.js";
import { duration, time } from "./format.js";

const NAMES = { database: "The database", broker: "RabbitMQ" };
const SHORT = { page: "page lost", database: "database away", broker: "RabbitMQ away", cluster: "RabbitMQ not whole" };
const STALE = {
  database: "The requests below are from before.",
  broker: "What waits in the queue is not known; requests that are served still appear.",
};
const list = find("#problems");
let drawn = "";

export function servers(store, lost) {
  const problems = [];
  if (lost) problems.push(["page", `✕ This page's own server has not answered since ${time(lost)}. The page keeps trying.`, "", lost]);
  for (const name of ["database", "broker"]) {
    const server = store.servers[name];
    const element = find(`[data-server=${name}]`);
    const state = lost ? "unknown" : !server ? "unset" : server.seen ? "seen" : "away";
    element.className = state;
    write(find(".word", element), { unknown: "not known", unset: "not set up", seen: "up", away: "away" }[state]);
    if (state === "away") {
      problems.push([name, `✕ ${NAMES[name]} has been unavailable since ${time(server.since)}. ${STALE[name]}`, server.problem, server.since]);
    }
    if (state === "unset") element.title = "Without MANAGEMENT_URL the queue cannot be seen.";
  }
  if (!lost && store.servers.broker?.seen) {
    for (const text of store.warnings) problems.push(["cluster", `⚠ ${text}`]);
  }
  document.body.classList.toggle("stale", Boolean(lost) || store.servers.database?.seen === false);
  draw(problems, store);
  entitle([...new Set(problems.map(([name]) => SHORT[name]))], store);
}

function entitle(problems, store) {
  const wrong = [...problems, ...(store.audit?.repeated ? ["repeated"] : []), ...(missing(store).length ? ["missing"] : [])];
  const title = wrong.length ? `✕ ${wrong.join(", ")} · Turnwise` : "Turnwise";
  if (document.title !== title) document.title = title;
}

// Told once, not each second: this is read aloud.
function draw(problems, store) {
  const wanted = problems.map(([name, text, detail]) => `${name}|${text}|${detail}`).join();
  if (wanted !== drawn) {
    drawn = wanted;
    list.replaceChildren(...problems.map(([name, text, detail]) =>
      make("div", { class: "problem", "data-problem": name }, make("p", {}, text, " ", make("span", { class: "for", "aria-hidden": "true" })), ...(detail ? [make("p", { class: "detail" }, detail)] : []))));
  }
  problems.forEach(([, , , since], index) => since && write(find(".for", list.children[index]), `(${duration(Math.max(0, Math.floor(store.clock() - since))).replace(".0 s", " s")})`));
}
