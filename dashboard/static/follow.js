// One counter, from "not served yet" to who served it, with all of its message.

import { find, write } from "./dom.js";
import { duration, message, number, precise, time } from "./format.js";

const EVERY = 1000; // milliseconds
const root = find("#followed");
const form = find("#stream form");
let wanted = null;
let timer;
let database;

export function follow(store) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const counter = find("#counter").value.trim();
    const client = find("#client").value.trim() || only(store);
    if (!/^[0-9]{1,19}$/.test(counter)) return say("Write the counter to follow as a number.");
    if (!/^[A-Za-z0-9._-]{1,64}$/.test(client)) return say("Name the client whose counter it is.");
    wanted = `${client}/${counter}`;
    clearTimeout(timer);
    write(find("h3", root), wanted.replace("/", " "));
    write(find(".message bdi", root), "");
    say("Looking …");
    look();
  });
  find("button", root).addEventListener("click", () => {
    wanted = null;
    clearTimeout(timer);
    root.hidden = true;
    find("#counter").focus();
  });
}

// What the page knows of the database, which need not be asked in vain.
export const following = (store) => { database = store.servers.database; };

const only = (store) => (store.audit?.count === 1 ? store.audit.clients[0].client : "");

function say(text) {
  root.hidden = false;
  write(find(".state", root), text);
}

async function look() {
  const asked = wanted;
  const told = database?.seen === false ? { problem: "the database is away" } : await ask(asked);
  if (asked !== wanted) return;
  tell(told);
  timer = setTimeout(look, EVERY);
}

async function ask(identity) {
  try {
    return JSON.parse(await (await fetch(`api/requests/${identity}`)).text());
  } catch {
    return { problem: "the page's own server does not answer" };
  }
}

function tell(told) {
  if (told.removed) {
    say("✓ Served. Its row has since been removed, as old rows are, so its message is no longer known.");
  } else if (told.served) {
    const took = duration(told.served_at - told.sent_at);
    const repeated = told.deliveries > 1 ? `, delivered ${told.deliveries} times, recorded once` : "";
    say(`✓ Served by ${told.served_by} at ${precise(told.served_at)}, ${took} after it was sent${repeated}. ${number(told.size)} bytes:`);
    write(find(".message bdi", root), message(told.message) || "(empty)");
  } else if (told.problem) {
    say(`✕ Not known now: ${told.problem}`);
  } else if (told.failure) {
    say(`… Not served: it failed ${number(told.failure.attempts)} times${told.failure.due_at ? `, and is due again at ${time(told.failure.due_at)}` : ", and was given up"}. ${told.failure.error}`);
  } else if (!told.known) {
    say("… No request of this client was ever served: check the name. Still looking.");
  } else {
    say("… Not served yet. Still looking.");
  }
}
