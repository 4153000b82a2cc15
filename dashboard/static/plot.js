// One chart of the last five minutes, as SVG: lines, stacked areas, hatched bands for outages.
// Colours come from the style sheet alone, so dark and light need no redrawing.


import { date, number } from "./format.js";

const NS = "http://www.w3.org/2000/svg";
const LEFT = 46; // room for the figures of the vertical axis
const BOTTOM = 22;
const TOP = 8;
const RIGHT = 10;
const LETTER = 13; // the height that a letter needs within a band
const EVERY = [60, 120, 300]; // seconds between two labels

let plots = 0;

function svg(tag, attributes = {}, text = "") {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

export class Plot {
  #root;
  #hatch = `hatch-${++plots}`;
  #layers = {};
  #drawn = null;
  #width = 0;
  #height = 0;
  #tell;

  // tell(index) is called with the second that is pointed at, and with null when none is any more.
  constructor(holder, tell) {
    this.#tell = tell;
    this.#root = svg("svg", { "aria-hidden": "true", focusable: "false" });
    const defs = svg("defs");
    const hatch = svg("pattern", { id: this.#hatch, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    hatch.append(svg("line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 7 }));
    defs.append(hatch);
    this.#root.append(defs);
    for (const name of ["bands", "grid", "series", "marks", "names"]) this.#root.append(this.#layers[name] = svg("g", { class: name }));
    this.#root.append(this.#layers.cursor = svg("line", { class: "cursor", y1: TOP, visibility: "hidden" }));
    holder.append(this.#root);
    new ResizeObserver(() => {
      this.#width = holder.clientWidth;
      this.#height = holder.clientHeight;
      if (this.#drawn) this.draw(this.#drawn);
    }).observe(holder);
    this.#root.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.#root.addEventListener("pointerleave", () => this.#point(null));
  }

  // lines: [{values, series, dash, step, fill}]; stack: [{values, colour, letter}], from below, which
  // adds up to total; bands: [{name, from, to}]. All values are as long as times, null is not known.
  draw(what) {
    this.#drawn = what;
    const { times, lines = [], stack = [], total = null, bands = [] } = what;
    if (this.#width < LEFT + RIGHT + 20) return;
    const high = Math.max(1, ...[...lines.map((line) => line.values), total ?? []].flatMap((values) => values.filter((value) => value != null)));
    const scale = this.#scale(times, high * 1.15);
    this.#root.setAttribute("viewBox", `0 0 ${this.#width} ${this.#height}`);
    this.#layers.cursor.setAttribute("y2", this.#height - BOTTOM);
    this.#axes(times, high * 1.15, scale);
    this.#outages(bands, scale);
    this.#lines(lines, stack, total, scale);
  }

  #scale(times, high) {
    const [first, last] = [times[0], times.at(-1)];
    const width = this.#width - LEFT - RIGHT;
    const height = this.#height - TOP - BOTTOM;
    return {
      x: (at) => round(LEFT + (width * (at - first)) / (last - first)),
      y: (value) => round(TOP + height * (1 - value / high)),
      at: (index) => round(LEFT + (width * index) / (times.length - 1)),
    };
  }

  #axes(times, high, scale) {
    const parts = [];
    const step = nice(high / Math.max(2, Math.floor((this.#height - TOP - BOTTOM) / 34)));
    for (let value = 0; value <= high; value += step) {
      const y = scale.y(value);
      parts.push(svg("line", { x1: LEFT, x2: this.#width - RIGHT, y1: y, y2: y }));
      parts.push(svg("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, short(value)));
    }
    const every = EVERY.find((each) => ((this.#width - LEFT) * each) / 300 > 54) ?? 300;
    const aligned = (at) => Math.ceil(at / every) * every;
    for (let at = aligned(times[0]); at <= times.at(-1); at += every) {
      const x = scale.x(at);
      parts.push(svg("line", { x1: x, x2: x, y1: TOP, y2: this.#height - BOTTOM }));
      // Within the picture, also at its edges.
      const within = Math.min(Math.max(x, 18), this.#width - 18);
      parts.push(svg("text", { x: within, y: this.#height - 6, "text-anchor": "middle" }, minute(at)));
    }
    this.#layers.grid.replaceChildren(...parts);
  }

  #outages(bands, scale) {
    const shown = bands.map((band) => ({ ...band, left: scale.x(band.from), width: Math.max(3, scale.x(band.to) - scale.x(band.from)) }));
    this.#layers.bands.replaceChildren(...shown.flatMap(({ left, width, name }) => {
      const box = { x: left, width, y: TOP, height: this.#height - TOP - BOTTOM };
      return [svg("rect", { class: "wash", "data-name": name, ...box }), svg("rect", { fill: `url(#${this.#hatch})`, ...box })];
    }));
    const names = shown.map(({ name, left, width }, index) => {
      const end = left > this.#width / 2;
      return svg("text", { x: end ? left + width - 4 : left + 4, y: TOP + 12 + 14 * (index % 3), "text-anchor": end ? "end" : "start" }, name);
    });
    this.#layers.names.replaceChildren(...names);
  }

  #lines(lines, stack, total, scale) {
    const parts = [];
    const marks = [];
    let below = total?.map((value) => (value == null ? null : 0));
    for (const { values, colour, letter, others } of stack) {
      const above = values.map((value, index) => (value == null ? null : below[index] + value));
      parts.push(svg("path", { class: others ? "area others" : "area", "data-colour": colour, d: area(below, above, scale) }));
      const last = above.findLastIndex((value) => value != null);
      if (last >= 0 && scale.y(below[last]) - scale.y(above[last]) >= LETTER) {
        marks.push(svg("text", { "data-colour": colour, class: others ? "others" : null, x: scale.at(last) - 4, y: (scale.y(below[last]) + scale.y(above[last])) / 2 + 4, "text-anchor": "end" }, letter));
      }
      below = above;
    }
    if (total) parts.push(svg("path", { class: "total", d: line(total, scale) }));
    for (const { values, series, dash, step, fill } of lines) {
      if (fill) parts.push(svg("path", { class: "area", "data-series": series, d: area(values.map((value) => (value == null ? null : 0)), values, scale) }));
      parts.push(svg("path", { class: "line", "data-series": series, "stroke-dasharray": dash, d: line(values, scale, step) }));
    }
    this.#layers.series.replaceChildren(...parts);
    this.#layers.marks.replaceChildren(...marks);
  }

  #point(x) {
    const { cursor } = this.#layers;
    const count = this.#drawn?.times.length;
    const index = x == null || !count ? null : Math.round(((x - LEFT) / (this.#width - LEFT - RIGHT)) * (count - 1));
    const within = index != null && index >= 0 && index < count;
    cursor.setAttribute("visibility", within ? "visible" : "hidden");
    if (within) for (const name of ["x1", "x2"]) cursor.setAttribute(name, LEFT + ((this.#width - LEFT - RIGHT) * index) / (count - 1));
    this.#tell(within ? index : null);
  }
}

// The stretches in which something is known, as [first, last].
export function runs(values) {
  const found = [];
  values.forEach((value, index) => {
    if (value == null) return;
    if (found.length && found.at(-1)[1] === index - 1) found.at(-1)[1] = index;
    else found.push([index, index]);
  });
  return found;
}

function line(values, scale, step = false) {
  return runs(values).map(([first, last]) => {
    let path = `M${scale.at(first)} ${scale.y(values[first])}`;
    for (let index = first + 1; index <= last; index++) {
      path += step ? `H${scale.at(index)}V${scale.y(values[index])}` : `L${scale.at(index)} ${scale.y(values[index])}`;
    }
    return first === last ? `${path}h1` : path;
  }).join("");
}

function area(below, above, scale) {
  return runs(above).map(([first, last]) => {
    let path = `M${scale.at(first)} ${scale.y(above[first])}`;
    for (let index = first + 1; index <= last; index++) path += `L${scale.at(index)} ${scale.y(above[index])}`;
    for (let index = last; index >= first; index--) path += `L${scale.at(index)} ${scale.y(below[index])}`;
    return `${path}Z`;
  }).join("");
}

// The next of 1, 2, 5, 10, 20, 50 ...
export function nice(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least);
}

const round = (value) => Math.round(value * 10) / 10;
const minute = (at) => date(at).slice(11, 16);
const short = (value) => (value >= 1e6 ? `${value / 1e6} M` : value >= 1e4 ? `${value / 1e3} k` : number(value));

