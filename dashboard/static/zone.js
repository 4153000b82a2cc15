// Times on a page from the server are UTC; here they become those of the reader's zone, in the
// forms too. Without this script they stay UTC, which the page says.

import { date, full, zone } from "./format.js";

for (const element of document.querySelectorAll("time[datetime]")) {
  const at = Date.parse(element.dateTime) / 1000;
  element.title = `${full(at)} · ${element.textContent} UTC`;
  element.textContent = `${date(at)}.${element.dateTime.slice(20, 23)}`;
}
for (const element of document.querySelectorAll(".zone")) element.textContent = `times in ${zone()}`;

const inputs = [...document.querySelectorAll("input[type=datetime-local]")];
for (const input of inputs) {
  const at = Date.parse(`${input.getAttribute("value")}Z`);
  if (!Number.isNaN(at)) input.value = date(at / 1000).replace(" ", "T");
}
for (const form of new Set(inputs.map((input) => input.form))) {
  form.addEventListener("formdata", ({ formData }) => {
    for (const { name, value } of inputs) {
      if (value) formData.set(name, new Date(value).toISOString().slice(0, 19));
    }
    for (const [name, value] of [...formData]) if (!value) formData.delete(name); // a short address
  });
}
