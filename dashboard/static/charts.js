// The last five minutes: who served how much, what waited, who was there.

import { find, letter, write } from "./dom.js";
import { number, rate, time } from "./format.js";
import { Plot } from "./plot.js";

const SPAN = 300;
const HOLD = 5; // seconds for which a figure of the queue is taken to stand
const APART = 8; // replicas that have a band each
const MEAN = 5; // seconds over which the bands are averaged: a few requests a second are a comb without
const DASH = "6 3";
const NAMES = { database: "database away", broker: "RabbitMQ away" };

class Chart {
  #root;
  #plot;
  #times = [];
  #said = "";
  #tell = null;
  #index = null;

  constructor(selector) {
    this.#root = find(selector);
    this.#plot = new Plot(find(".plot", this.#root), (index) => {
      this.#index = index;
      this.#write();
    });
  }

  // said: the figures now; tell(index): those of a second.
  draw(what, said, tell) {
    this.#times = what.times;
    this.#said = said;
    this.#tell = tell;
    this.#plot.draw(what);
    this.#write();
  }

  #write() {
    const text = this.#index == null ? this.#said : `${time(this.#times[this.#index])}: ${this.#tell(this.#index) ?? "not known"}`;
    write(find(".summary", this.#root), text);
  }
}

const rates = new Chart("#rates");
const backlog = new Chart("#backlog");
const crew = new Chart("#crew");

export function charts(store) {
  const end = Math.floor(store.clock());
  const times = Array.from({ length: SPAN }, (_, index) => end - SPAN + index);
  const bands = store.outages
    .map((outage) => ({ name: NAMES[outage.server], from: Math.max(outage.since, times[0]), to: Math.min(outage.until ?? Infinity, times.at(-1)) }))
    .filter((band) => band.name && band.to > band.from);
  drawRates(store, times, bands);
  const queue = held(store, times);
  const of = (name) => queue.map((figures) => figures?.[name] ?? null);
  const now = store.servers.broker?.seen ? store.queue : null;
  const waits = (q) => q && `━ ${number(q.ready)} ready, ╍ ${number(q.in_hand)} in hand`;
  const there = (q) => q && `━ ${number(q.consumers)} consumers, ╍ ${number(q.dead)} dead letters`;
  backlog.draw({ times, bands, lines: [
    { series: "a", fill: true, values: of("ready") },
    { series: "b", dash: DASH, values: of("in_hand") },
  ] }, waits(now) ?? "not known", (index) => waits(queue[index]));
  crew.draw({ times, bands, lines: [
    { series: "a", step: true, values: of("consumers") },
    { series: "bad", dash: DASH, step: true, values: of("dead") },
  ] }, there(now) ?? "not known", (index) => there(queue[index]));
}

function drawRates(store, times, bands) {
  const served = times.map((at) => store.seconds.get(at)?.served ?? null);
  const total = means(served.map((counts) => counts && Object.values(counts).reduce((sum, count) => sum + count, 0)));
  const sums = new Map();
  for (const counts of served) for (const [name, count] of Object.entries(counts ?? {})) sums.set(name, (sums.get(name) ?? 0) + count);
  const replicas = store.replicas.filter((replica) => sums.has(replica.name));
  // Of many, those that served most stand for themselves, each in a colour of its own, the others
  // together.
  const colours = new Set();
  const most = replicas.length <= APART ? replicas : [...replicas]
    .sort((a, b) => sums.get(b.name) - sums.get(a.name))
    .filter(({ slot }) => colours.size < APART - 1 && !colours.has(slot % 8) && colours.add(slot % 8));
  const apart = replicas.filter((replica) => most.includes(replica));
  const others = replicas.length - apart.length;
  const stack = apart.map(({ name, slot }) => ({
    colour: slot % 8, letter: letter(slot), values: means(served.map((counts) => counts && (counts[name] ?? 0))),
  }));
  if (others) {
    const rest = total.map((sum, index) => sum == null ? null : sum - stack.reduce((all, each) => all + each.values[index], 0));
    stack.push({ others: true, letter: `+${others}`, values: rest });
  }
  const known = served.slice(-11, -1).filter(Boolean);
  const mean = (name) => known.reduce((sum, counts) => sum + (counts[name] ?? 0), 0) / Math.max(1, known.length);
  const all = known.reduce((sum, counts) => sum + Object.values(counts).reduce((a, b) => a + b, 0), 0) / Math.max(1, known.length);
  const shares = (of) => apart.map(({ name, slot }) => `${letter(slot)} ${rate(of(name))}`).join(", ") + (others ? `, ${others} others` : "");
  const said = known.length ? `${rate(all)} in the last ten seconds${apart.length ? `: ${shares(mean)}` : ""}` : "not known";
  rates.draw({ times, bands, stack, total }, said, (index) => served[index] && `${rate(total[index])}${apart.length ? `: ${shares((name) => served[index][name] ?? 0)}` : ""}`);
}

// The mean of each second and those known before it; null stays null.
export function means(values) {
  return values.map((value, index) => {
    if (value == null) return null;
    const some = values.slice(Math.max(0, index - MEAN + 1), index + 1).filter((each) => each != null);
    return some.reduce((sum, each) => sum + each, 0) / some.length;
  });
}

// While nobody looks the queue is asked less often: a figure stands until the next one.
function held(store, times) {
  let last = null;
  return times.map((at) => {
    const figures = store.seconds.get(at)?.queue;
    if (figures) last = { at, figures };
    return last && at - last.at <= HOLD && !away(store, at) ? last.figures : null;
  });
}

function away(store, at) {
  return store.outages.some((o) => o.server === "broker" && o.since < at && at < (o.until ?? Infinity));
}
