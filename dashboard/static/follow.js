// One counter, from "not served yet" to who served it, with all of its message.

import { find, write } from "./dom.js";
import { duration, message, number, precise } from "./format.js";

const EVERY = 1000; // milliseconds
const root = find("#followed");
const form = find("#stream form");
let wanted = null;
let timer;

export function follow(store) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const counter = find("#counter").value.trim();
    const client = find("#client").value.trim() || only(store);
    if (!/^[0-9]{1,19}$/.test(counter)) return complain("Write the counter to follow as a number.");
    if (!client) return complain("Name the client whose counter it is.");
    wanted = `${client}/${counter}`;
    clearTimeout(timer);
    write(find("h3", root), wanted.replace("/", " "));
    write(find(".message bdi", root), "");
    complain("Looking …");
    look();
  });
  find("button", root).addEventListener("click", () => {
    wanted = null;
    clearTimeout(timer);
    root.hidden = true;
    find("#counter").focus();
  });
}

const only = (store) => (store.audit?.count === 1 ? store.audit.clients[0].client : "");

function complain(text) {
  root.hidden = false;
  write(find(".state", root), text);
}

async function look() {
  const asked = wanted;
  let told;
  try {
    const [client, counter] = asked.split("/");
    const response = await fetch(`/api/requests/${encodeURIComponent(client)}/${counter}`);
    told = { status: response.status, ...(await response.json()) };
  } catch {
    told = { status: 0 };
  }
  if (asked !== wanted) return;
  tell(told);
  timer = setTimeout(look, EVERY);
}

function tell(told) {
  if (told.status === 200) {
    const took = duration(told.served_at - told.sent_at);
    const repeated = told.deliveries > 1 ? `, delivered ${told.deliveries} times, recorded once` : "";
    complain(`✓ Served by ${told.served_by} at ${precise(told.served_at)}, ${took} after it was sent${repeated}. ${number(told.size)} bytes:`);
    write(find(".message bdi", root), message(told.message) || "(empty)");
  } else if (told.status === 404) {
    complain("… Not served yet. This page goes on looking.");
  } else {
    complain(`✕ Cannot tell now: ${told.problem ?? "the page's own server does not answer"}`);
  }
}
