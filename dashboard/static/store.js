// What the page knows: each answer tells what changed since the one before, be it from another
// process behind the same load balancer, which may know more, less, or since when differently.

const KEPT = 1000; // requests
const SECONDS = 300;

const collator = new Intl.Collator("en", { numeric: true });

export class Store {
  sequence = "";
  now = 0;
  requests = []; // newest first; a {gap: true} stands where some were never shown
  seconds = new Map();
  replicas = []; // by name, each with a slot: the number of its letter and colour
  slots = new Map();
  servers = {};
  outages = [];
  queue = null;
  warnings = [];
  failures = null;
  outbox = null;
  audit = null;
  #offset = 0;

  take(told) {
    this.sequence = told.sequence;
    this.now = told.now;
    this.#offset = told.now - Date.now() / 1000;
    this.servers = told.servers;
    this.queue = told.queue ?? this.queue;
    this.warnings = told.warnings ?? [];
    this.failures = told.failures ?? this.failures;
    this.outbox = told.outbox ?? this.outbox;
    if (told.audit) this.audit = told.audit;
    this.#merge(told.requests, told.skipped);
    for (const second of told.seconds) {
      const known = this.seconds.get(second.at);
      this.seconds.set(second.at, { at: second.at, served: second.served ?? known?.served ?? null, queue: second.queue ?? known?.queue ?? null });
    }
    for (const at of this.seconds.keys()) if (at < told.now - SECONDS) this.seconds.delete(at);
    this.#remember(told.outages);
    this.#number(told.replicas);
  }

  // The database's clock, which all times are of.
  clock() {
    return Date.now() / 1000 + this.#offset;
  }

  #remember(outages) {
    const overlaps = (one, other) => one.server === other.server && one.since < (other.until ?? Infinity) && other.since < (one.until ?? Infinity);
    const past = this.outages.filter((known) => known.until && known.until > this.now - SECONDS && !outages.some((each) => overlaps(each, known)));
    this.outages = [...past, ...outages];
  }

  // A replica keeps its number as long as it is in any figure; a new one gets the lowest free one.
  #number(replicas) {
    this.replicas = [...replicas].sort((a, b) => collator.compare(a.name, b.name));
    const names = new Set(replicas.map((replica) => replica.name));
    for (const name of this.slots.keys()) if (!names.has(name)) this.slots.delete(name);
    const taken = new Set(this.slots.values());
    let free = 0;
    for (const replica of this.replicas) {
      if (!this.slots.has(replica.name)) {
        while (taken.has(free)) free++;
        taken.add(free);
        this.slots.set(replica.name, free);
      }
      replica.slot = this.slots.get(replica.name);
    }
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
