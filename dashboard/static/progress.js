// How far an action is, as long as it goes on.

import { find } from "./dom.js";

const EVERY = 1000; // milliseconds

async function look() {
  try {
    const text = await (await fetch(location.href, { signal: AbortSignal.timeout(5000) })).text();
    const told = new DOMParser().parseFromString(text, "text/html").querySelector("#progress");
    if (told && !told.hasAttribute("data-running")) return location.reload();
    if (told) find("#progress").replaceWith(document.adoptNode(told));
  } catch {
    // The next look may be answered.
  }
  setTimeout(look, EVERY);
}

if (find("#progress[data-running]")) setTimeout(look, EVERY);
