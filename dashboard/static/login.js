// A link that logs in: the token stands behind the #, which no browser sends to a server, and goes
// from the address before anything else.

import { find } from "./dom.js";

function enter() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname + location.search);
  find("#token").value = token;
  find("form").requestSubmit();
}

addEventListener("hashchange", enter);
enter();
