// Elements out of names and text. Text stays text: nothing here, or anywhere in the console, ever
// parses markup (and the page's policy would not let it). What can't be seen in it is written out.

import { turns, visible, visibleId } from "./visible.js";

const SVG = "http://www.w3.org/2000/svg";
// Attributes that are read by people. Others (addresses, what a box holds) stay as they are.
const READ = new Set(["title", "aria-label", "data-label"]);

function set(element, properties) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "class") element.setAttribute("class", value);
    else element.setAttribute(name, value === true ? "" : READ.has(name) ? visible(value) : value);
  }
}

// Text that is read from right to left stands by itself, or it would turn what is around it.
function text(value) {
  const shown = visible(value);
  if (!turns(shown)) return shown;
  const isolated = document.createElement("bdi");
  isolated.append(shown);
  return isolated;
}

// mixed`by ${name}: ${reason}`: each value is a text of its own, and turns nothing around it.
export function mixed(words, ...values) {
  return words.flatMap((word, index) => {
    if (index >= values.length) return [word];
    return [word, values[index] instanceof Node ? values[index] : h("bdi", null, visible(values[index]))];
  });
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : text(child));
  }
  return element;
}

export function h(name, properties, ...children) {
  const element = document.createElement(name);
  set(element, properties);
  return add(element, children);
}

export function svg(name, properties, ...children) {
  const element = document.createElementNS(SVG, name);
  set(element, properties);
  return add(element, children);
}

export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

// Change a text only when it differs: a selection in it, or a screen reader, is left alone.
export function say(element, text) {
  const wanted = visible(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

// A table that is a list of cards where there is no room for columns.
export function table(headings, rows, properties) {
  return h(
    "table",
    { class: "grid", ...properties },
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        headings.map((one) =>
          h(
            "th",
            { scope: "col", class: one.numeric ? "n" : null },
            one.hidden ? h("span", { class: "hidden-text" }, one.title) : one.title,
          ),
        ),
      ),
    ),
    h(
      "tbody",
      null,
      rows.map((cells) => (cells instanceof Node ? cells : row(headings, cells))),
    ),
  );
}

export function row(headings, cells, properties) {
  return h(
    "tr",
    properties,
    cells.map((cell, index) =>
      h(
        "td",
        {
          class: headings[index].numeric ? "n" : null,
          "data-label": headings[index].hidden ? "" : headings[index].title,
        },
        cell === null || cell === undefined ? "" : cell,
      ),
    ),
  );
}

export function empty(title, text) {
  return h("div", { class: "empty" }, h("strong", null, title), text ? h("p", null, text) : null);
}

export function button(label, onclick, properties) {
  return h("button", { type: "button", onclick, ...properties }, label);
}

// An id of somebody's choice: every character of it is seen, it turns nothing, and it wraps.
export function copyable(text) {
  return h("code", { class: "id" }, h("bdi", null, visibleId(text)));
}
