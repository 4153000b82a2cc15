// The last hundred turns: a lane for each replica, oldest on the left. Round robin is a chequered
// band; a replica that dies leaves its lane empty.

import { badge, find, letter, make, write } from "./dom.js";
import { duration, number, precise, rate } from "./format.js";

const TURNS = 100;
const END = 9; // characters of a name that are always shown
const MANY = 12; // replicas, from which on a lane is half as high
const root = find("#turns");
const lanes = find(".lanes", root);
let drawn = "";

export function turns(store) {
  const shown = store.requests.filter((request) => !request.gap).slice(0, TURNS).reverse();
  const names = new Set(shown.map((request) => request.served_by));
  const replicas = store.replicas.filter((replica) => names.has(replica.name) || replica.consuming);
  // Where many scroll, those that are there come first.
  if (replicas.length > MANY) replicas.sort((a, b) => (a.consuming === false) - (b.consuming === false));
  drawLanes(replicas);
  const tracks = new Map(replicas.map((replica, index) => [replica.name, lanes.children[index].lastChild]));
  const cells = new Map([...tracks.keys()].map((name) => [name, []]));
  shown.forEach((request, index) => {
    const cell = make("span", {
      class: request.deliveries > 1 ? "repeated" : false,
      title: `${request.client} ${request.counter}, ${request.served_by}, ${precise(request.served_at)}`,
      "data-replica": request.served_by,
      "data-order": index,
    });
    cell.style.gridColumn = TURNS - shown.length + index + 1;
    cells.get(request.served_by)?.push(cell);
  });
  for (const [name, track] of tracks) track.replaceChildren(...cells.get(name));
  const said = summary(shown, replicas);
  write(find(".summary", root), said);
  write(find(".spoken", root), `Oldest first: ${shown.map((r) => letter(store.slots.get(r.served_by) ?? 0)).join(" ")}`);
}

function drawLanes(replicas) {
  const wanted = JSON.stringify(replicas);
  if (wanted === drawn) return;
  drawn = wanted;
  const many = replicas.length > MANY;
  root.classList.toggle("many", many);
  lanes.toggleAttribute("tabindex", many); // many scroll, also by keyboard
  if (many) lanes.tabIndex = 0;
  lanes.replaceChildren(...replicas.map((replica) => {
    const state = { true: "connected", false: "gone", null: "" }[replica.consuming];
    const note = [state, replica.served == null ? "" : `${number(replica.served)} served`].filter(Boolean).join(" · ");
    return make("li", { class: replica.consuming === false ? "gone" : false, "data-replica": replica.name, "data-colour": replica.slot % 8 },
      badge(replica.slot), name(replica.name), make("small", {}, note),
      make("div", { class: "track", "aria-hidden": "true" }));
  }));
}

// Names of pods differ at their ends: where one is cut, its end stays.
function name(text) {
  return make("span", { class: "name", title: text }, make("span", {}, text.slice(0, -END)), make("span", {}, text.slice(-END)));
}

function summary(shown, replicas) {
  if (shown.length < 2) return "";
  const changes = shown.filter((request, index) => index && request.served_by !== shown[index - 1].served_by).length;
  const span = shown.at(-1).served_at - shown[0].served_at;
  const many = replicas.length > 1 ? `${replicas.length} replicas. ` : "";
  return `${many}The turn changed hands ${rate((100 * changes) / (shown.length - 1))} % of the time, over ${duration(span)}.`;
}
