// Making and filling elements. What comes from outside only ever becomes text.

export const find = (selector, root = document) => root.querySelector(selector);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Writing only what differs keeps a reader's place and selection.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A replica's sign: its letter on its colour.
export function badge(slot) {
  // There are eight colours: the next eight replicas wear them the other way round.
  const kind = Math.floor(slot / 8) % 2 ? "badge second" : "badge";
  return make("span", { class: kind, "data-colour": slot % 8, "aria-hidden": "true" }, letter(slot));
}

export function letter(slot) {
  const last = String.fromCharCode(65 + (slot % 26));
  return slot < 26 ? last : letter(Math.floor(slot / 26) - 1) + last;
}
