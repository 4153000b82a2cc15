// The last five minutes, drawn by uPlot. An outage is a hatched band with its server's name.

import { find, letter, write } from "./dom.js";
import { number, rate } from "./format.js";

const SPAN = 300;
const HOLD = 5; // seconds for which a figure of the queue is taken to stand
const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];
const NAMES = { database: "database away", broker: "RabbitMQ away" };

const style = () => getComputedStyle(document.documentElement);
const colour = (name) => style().getPropertyValue(name).trim();

class Chart {
  #root;
  #plot = null;
  #signature = "";
  #outages = [];
  #hidden;

  constructor(selector) {
    this.#root = find(selector);
    const holder = find(".plot", this.#root);
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(holder);
    this.#hidden = holder;
  }

  // series: [{label, colour, dash, fill, step, values}], all as long as times.
  draw(times, series, outages, said) {
    write(find(".summary", this.#root), said);
    this.#outages = outages;
    const signature = JSON.stringify(series.map(({ values, ...look }) => look)) + colour("--ink");
    const data = [times, ...series.map((each) => each.values)];
    if (signature !== this.#signature) {
      this.#signature = signature;
      this.#plot?.destroy();
      this.#plot = new uPlot(this.#options(series), data, this.#hidden);
    } else {
      this.#plot.setData(data);
    }
  }

  #size() {
    return { width: this.#hidden.clientWidth, height: this.#hidden.clientHeight };
  }

  #options(series) {
    const axis = {
      stroke: colour("--muted"),
      font: "11px Inter, system-ui, sans-serif",
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    return {
      ...this.#size(),
      padding: [8, 8, 0, 0],
      cursor: { drag: { x: false, y: false }, points: { show: false } },
      legend: { show: false },
      scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, high) * 1.25] } },
      axes: [
        { ...axis, size: 26, space: 50, incrs: [60, 120, 300], values: (_plot, ticks) => ticks.map(minute) },
        { ...axis, size: 44, space: 28, incrs: [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7], values: (_plot, ticks) => ticks.map(short) },
      ],
      series: [
        {},
        ...series.map((each) => ({
          label: each.label,
          stroke: colour(each.colour),
          width: 1.75,
          dash: each.dash,
          fill: each.fill ? `color-mix(in srgb, ${colour(each.colour)} 14%, transparent)` : undefined,
          paths: each.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: false },
        })),
      ],
      hooks: { drawClear: [(plot) => this.#hatch(plot)], draw: [(plot) => this.#label(plot, series)] },
    };
  }

  #bands(plot) {
    const { min, max } = plot.scales.x;
    return this.#outages
      .map((outage) => ({ name: NAMES[outage.server], from: Math.max(outage.since, min), to: Math.min(outage.until ?? max, max) }))
      .filter((band) => band.name && band.to > band.from)
      .map((band) => {
        const left = plot.valToPos(band.from, "x", true);
        return { ...band, left, width: Math.max(3, plot.valToPos(band.to, "x", true) - left) };
      });
  }

  #hatch(plot) {
    const { ctx, bbox } = plot;
    for (const { left, width } of this.#bands(plot)) {
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, bbox.top, width, bbox.height);
      ctx.fillStyle = colour("--outage-wash");
      ctx.fill();
      ctx.clip();
      ctx.strokeStyle = colour("--outage-hatch");
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      for (let x = left - bbox.height; x < left + width; x += 7 * devicePixelRatio) {
        ctx.moveTo(x, bbox.top + bbox.height);
        ctx.lineTo(x + bbox.height, bbox.top);
      }
      ctx.stroke();
      ctx.restore();
    }
  }

  #label(plot, series) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.font = `600 ${11 * devicePixelRatio}px Inter, system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    ctx.fillStyle = colour("--bad");
    let row = 0;
    for (const { name, left, width } of this.#bands(plot)) {
      const space = ctx.measureText(name).width;
      const fits = left + space < bbox.left + bbox.width;
      ctx.fillText(name, fits ? left + 3 : left + width - space - 3, bbox.top + 3 + 14 * devicePixelRatio * (row++ % 3));
    }
    // At the end of its line, each series says which it is.
    ctx.textBaseline = "middle";
    ctx.textAlign = "right";
    series.forEach((each, index) => {
      const values = plot.data[index + 1];
      const last = values.findLastIndex((value) => value != null);
      if (last < 0 || !each.mark) return;
      ctx.fillStyle = colour(each.colour);
      ctx.fillText(each.mark, bbox.left + bbox.width - (index % 4) * 12 * devicePixelRatio, plot.valToPos(values[last], "y", true) - 8 * devicePixelRatio);
    });
    ctx.restore();
  }
}

const rates = new Chart("#rates");
const backlog = new Chart("#backlog");
const crew = new Chart("#crew");

export function charts(store) {
  const end = Math.floor(store.clock());
  const times = Array.from({ length: SPAN }, (_, index) => end - SPAN + index);
  const outages = store.outages;
  drawRates(store, times, outages);
  const queue = held(store, times);
  const now = store.queue;
  backlog.draw(times, [
    { label: "ready", colour: "--series-a", fill: true, values: queue.map((q) => q?.ready ?? null) },
    { label: "in hand", colour: "--series-b", dash: DASHES[1], values: queue.map((q) => q?.in_hand ?? null) },
  ], outages, now ? `━ ${number(now.ready)} ready, ╍ ${number(now.in_hand)} in hand` : "not known");
  crew.draw(times, [
    { label: "consumers", colour: "--series-a", step: true, values: queue.map((q) => q?.consumers ?? null) },
    { label: "dead letters", colour: "--bad", dash: DASHES[1], step: true, values: queue.map((q) => q?.dead ?? null) },
  ], outages, now ? `━ ${number(now.consumers)} consumers, ╍ ${number(now.dead)} dead letters` : "not known");
}

function drawRates(store, times, outages) {
  const served = times.map((at) => store.seconds.get(at)?.served);
  const names = new Set(served.flatMap((counts) => Object.keys(counts ?? {})));
  const replicas = store.replicas.filter((replica) => names.has(replica.name));
  const known = served.slice(-11, -1).filter(Boolean);
  const mean = (name) => known.reduce((sum, counts) => sum + (counts[name] ?? 0), 0) / Math.max(1, known.length);
  const shares = replicas.slice(0, 6).map((replica) => `${letter(replica.slot)} ${rate(mean(replica.name))}`);
  const total = replicas.reduce((sum, replica) => sum + mean(replica.name), 0);
  rates.draw(times, replicas.map((replica) => ({
    label: replica.name,
    mark: letter(replica.slot),
    colour: `--replica-${replica.slot % 8}`,
    dash: DASHES[replica.slot % DASHES.length],
    values: served.map((counts) => (counts ? counts[replica.name] ?? 0 : null)),
  })), outages, !known.length ? "not known" : `${rate(total)} in the last ten seconds${shares.length ? `: ${shares.join(", ")}` : ""}`);
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

function minute(at) {
  const date = new Date(at * 1000);
  return `${String(date.getHours()).padStart(2, "0")}:${String(date.getMinutes()).padStart(2, "0")}`;
}

const short = (value) => (value >= 1e6 ? `${value / 1e6} M` : value >= 1e4 ? `${value / 1e3} k` : number(value));
