// Asks what changed, several times a second while somebody looks, and shows it.

import { audit } from "./audit.js";
import { charts } from "./charts.js";
import { follow, following } from "./follow.js";
import { outbox } from "./outbox.js";
import { servers } from "./servers.js";
import { figures, serving, tick } from "./serving.js";
import { Store } from "./store.js";
import { controls, stream } from "./stream.js";
import { turns } from "./turns.js";

const EVERY = 400; // milliseconds
const PATIENCE = 5000;

const store = new Store();
let lost = null; // since when the page's own server does not answer
let known = ""; // the replicas that are shown
let answered = Date.now(); // when the last answer came
let drawn = 0; // the second that the charts show

async function ask() {
  const response = await fetch(`api/state?after=${store.sequence}`, { signal: AbortSignal.timeout(PATIENCE) });
  if (response.status === 401) location.reload(); // leads to the login
  if (!response.ok) throw new Error(response.statusText);
  return JSON.parse(await response.text(), exact);
}

// Counters beyond what a double holds, where the browser gives the source.
function exact(_key, value, context) {
  const whole = typeof value === "number" && !Number.isSafeInteger(value) && /^\d+$/.test(context?.source ?? "");
  return whole ? BigInt(context.source) : value;
}

// After a sleep, or while its server is lost, nothing that stands here is of now.
function doubt() {
  const old = Date.now() - answered > PATIENCE;
  document.body.classList.toggle("old", old);
  if (old) tick(store);
}

function show(told) {
  answered = Date.now();
  doubt();
  store.take(told);
  serving(store);
  figures(store);
  outbox(store);
  const replicas = JSON.stringify(told.replicas);
  if (told.requests.length || replicas !== known) {
    known = replicas;
    turns(store);
    stream(store);
  }
  audit(store);
  following(store);
}

async function look() {
  doubt();
  let told = null;
  const before = store.sequence;
  try {
    told = await ask();
    lost = null;
  } catch {
    lost ??= store.clock();
  }
  if (told && store.sequence === before) show(told);
  servers(store, lost);
  tick(store);
  const now = Math.floor(store.clock());
  if (now !== drawn) {
    drawn = now;
    charts(store);
  }
}

async function turn() {
  try {
    if (!document.hidden) await look();
  } finally {
    setTimeout(turn, EVERY);
  }
}

controls(store);
follow(store);
// A tab that slept is brought up to date at once.
document.addEventListener("visibilitychange", () => document.hidden || look());
turn();
