// One box that chooses all on the page.

import { find } from "./dom.js";

const all = find("#choose-all");
const boxes = [...document.querySelectorAll("input[name=id]")];
all?.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; });
for (const box of boxes) {
  box.addEventListener("change", () => {
    const chosen = boxes.filter((each) => each.checked).length;
    all.checked = chosen === boxes.length;
    all.indeterminate = chosen > 0 && !all.checked;
  });
}
