// Keys for those who live here: g then a letter goes to a page, / to the search box, ? says which.

import { modal } from "./dialog.js";
import { button, h } from "./dom.js";

const IN_TIME = 1500;
const TYPED_INTO = /^(INPUT|TEXTAREA|SELECT)$/;
const ELSEWHERE = [
  [["/"], "Find a message"],
  [["?"], "Show these keys"],
  [["Esc"], "Close a dialog; leave a partition"],
  [["←", "→", "Home", "End"], "Move among the partitions of a log"],
  [["Enter"], "Tell of the partition"],
];

// Whether a key is meant for what has the focus, or for the browser.
function meantForOthers(event) {
  return (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    event.isComposing ||
    TYPED_INTO.test(event.target.tagName) ||
    event.target.isContentEditable ||
    document.querySelector("dialog[open]") !== null
  );
}

// `keys` has the address of each letter's page; `titles` the titles by address.
export function listenForKeys(keys, titles) {
  let went = -Infinity;
  window.addEventListener("keydown", (event) => {
    if (meantForOthers(event)) return;
    if (event.key === "?") {
      event.preventDefault();
      showKeys(keys, titles());
      return;
    }
    if (event.key === "/") {
      event.preventDefault();
      location.hash = "#/find";
      return;
    }
    if (event.key === "g") {
      went = event.timeStamp;
      return;
    }
    if (event.timeStamp - went < IN_TIME && keys[event.key]) location.hash = keys[event.key];
    went = -Infinity;
  });
}

export function showKeys(keys, titles) {
  const pages = Object.entries(keys)
    .filter(([, address]) => titles.has(address))
    .map(([letter, address]) => [["g", letter], titles.get(address)]);
  const dialog = h(
    "dialog",
    { class: "keys", "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, "Keyboard shortcuts"),
    h(
      "dl",
      null,
      [...pages, ...ELSEWHERE].map(([pressed, what]) =>
        h(
          "div",
          null,
          h(
            "dt",
            null,
            pressed.flatMap((one, index) => [index ? " " : null, h("kbd", null, one)]),
          ),
          h("dd", null, what),
        ),
      ),
    ),
    h("p", { class: "muted" }, "They do nothing while you type."),
    h(
      "div",
      { class: "actions" },
      button("Close", () => dialog.close()),
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  modal(dialog);
  dialog.querySelector("button").focus();
}
