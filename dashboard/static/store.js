// What the page knows: each answer tells what changed since the one before.

const KEPT = 1000; // requests
const SECONDS = 300;

export class Store {
  sequence = 0;
  now = 0;
  requests = []; // newest first; a {gap: true} stands where some were never shown
  seconds = new Map();
  replicas = [];
  servers = {};
  outages = [];
  queue = null;
  audit = null;
  #offset = 0;

  take(told) {
    this.sequence = told.sequence;
    this.now = told.now;
    this.#offset = told.now - Date.now() / 1000;
    this.replicas = told.replicas;
    this.slots = new Map(told.replicas.map((replica) => [replica.name, replica.slot]));
    this.servers = told.servers;
    this.outages = told.outages;
    this.queue = told.queue;
    if (told.audit) this.audit = told.audit;
    for (const second of told.seconds) this.seconds.set(second.at, second);
    for (const at of this.seconds.keys()) if (at < told.now - SECONDS) this.seconds.delete(at);
    this.#merge(told.requests, told.skipped);
  }

  // The database's clock, which all times are of.
  clock() {
    return Date.now() / 1000 + this.#offset;
  }

  #merge(changed, skipped) {
    if (!changed.length) return;
    const known = new Map(this.requests.filter((r) => !r.gap).map((r) => [key(r), r]));
    const fresh = changed.filter((r) => !known.has(key(r)));
    for (const r of changed) known.get(key(r)) && Object.assign(known.get(key(r)), r);
    if (skipped && this.requests.length && fresh.length === changed.length) {
      this.requests.unshift({ gap: true, served_at: changed.at(-1).served_at });
    }
    this.requests.unshift(...fresh);
    // A slow commit turns up behind faster ones.
    this.requests.sort((a, b) => b.served_at - a.served_at || (b.counter > a.counter ? 1 : b.counter < a.counter ? -1 : 0));
    this.requests.length = Math.min(this.requests.length, KEPT);
  }
}

export const key = (request) => `${request.client}/${request.counter}`;
