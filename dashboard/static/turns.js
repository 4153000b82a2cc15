// The last hundred turns: a lane for each replica, oldest on the left. Round robin is a chequered
// band; a replica that dies leaves its lane empty.

import { badge, find, letter, make, write } from "./dom.js";
import { duration, number, precise, rate } from "./format.js";

const TURNS = 100;
const root = find("#turns");
const lanes = find(".lanes", root);
const cells = find(".cells", root);
let drawn = "";

export function turns(store) {
  const shown = store.requests.filter((request) => !request.gap).slice(0, TURNS).reverse();
  const names = new Set(shown.map((request) => request.served_by));
  const replicas = store.replicas.filter((replica) => names.has(replica.name) || replica.consuming);
  const lane = new Map(replicas.map((replica, index) => [replica.name, index + 1]));
  drawLanes(replicas);
  cells.style.gridTemplateRows = `repeat(${Math.max(1, replicas.length)}, minmax(var(--lane), 1fr))`;
  cells.replaceChildren(...shown.map((request, index) => {
    const slot = store.slots.get(request.served_by) ?? 0;
    const cell = make("span", {
      "data-colour": slot % 8,
      "data-replica": request.served_by,
      class: request.deliveries > 1 ? "repeated" : false,
      title: `${request.client} ${request.counter}, ${request.served_by}, ${precise(request.served_at)}`,
    });
    cell.style.gridRow = lane.get(request.served_by) ?? 1;
    cell.style.gridColumn = TURNS - shown.length + index + 1;
    return cell;
  }));
  const said = summary(shown);
  write(find(".summary", root), said);
  cells.setAttribute("aria-label", `${said} Oldest first: ${shown.map((r) => letter(store.slots.get(r.served_by) ?? 0)).join(" ")}`);
}

function drawLanes(replicas) {
  const wanted = JSON.stringify(replicas);
  if (wanted === drawn) return;
  drawn = wanted;
  lanes.replaceChildren(...replicas.map((replica) => {
    const state = { true: "connected", false: "gone", null: "" }[replica.consuming];
    const note = [state, replica.served == null ? "" : `${number(replica.served)} served`].filter(Boolean).join(" · ");
    return make("li", { class: replica.consuming === false ? "gone" : false, "data-replica": replica.name },
      badge(replica.slot), make("span", { class: "name" }, replica.name), make("small", {}, note));
  }));
}

function summary(shown) {
  if (shown.length < 2) return "";
  const changes = shown.filter((request, index) => index && request.served_by !== shown[index - 1].served_by).length;
  const span = shown.at(-1).served_at - shown[0].served_at;
  return `The turn changed hands ${rate((100 * changes) / (shown.length - 1))} % of the time, over ${duration(span)}.`;
}
