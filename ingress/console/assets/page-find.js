// Find a message by whatever is at hand.

import { get } from "./api.js";
import { copyable, empty, fill, h, row, table } from "./dom.js";
import { precise } from "./format.js";

const STATES = { persisted: "persisted", pending: "pending", dead_lettered: "dead letter" };

export function findPage(root, { query }) {
  const box = h("input", { type: "search", name: "q", value: query.get("q") ?? "", required: true, maxlength: 256,
    placeholder: "message id, client message id, correlation id or conversation", "aria-label": "What to find", autocomplete: "off", spellcheck: "false" });
  const form = h("form", { class: "find", role: "search" }, box, h("button", { class: "primary", type: "submit" }, "Find"));
  const results = h("div", { "aria-live": "polite" });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = `#/find?q=${encodeURIComponent(box.value.trim())}`;
  });
  root.append(h("h1", null, "Find a message"), form, results);
  const q = query.get("q");
  if (!q) {
    fill(results, empty("One box for every id", "A client's message id and a correlation id may belong to several messages; a conversation shows its latest fifty. What is not a row yet is looked for in the log and among the dead letters."));
    box.focus();
    return;
  }
  fill(results, h("p", { class: "muted" }, "Looking …"));
  get("api/console/search", { q }).then((found) => show(results, found, q), (error) => fill(results, h("p", { class: "problem" }, error.message)));
}

function show(results, found, q) {
  const headings = [{ title: "Accepted" }, { title: "State" }, { title: "Message" }, { title: "Conversation" }, { title: "Client message id" }, { title: "Found as" }];
  fill(results,
    found.incomplete ? h("p", { class: "problem" }, found.incomplete) : null,
    found.items.length
      ? table(headings, found.items.map((one) => row(headings, [
        one.acceptedAt ? precise(one.acceptedAt) : "unknown",
        h("span", { class: `state ${one.state}` }, STATES[one.state]),
        h("a", { href: `#/message/${one.messageId}` }, copyable(one.messageId)),
        one.conversationId, one.clientMessageId, one.matched.join(", "),
      ])))
      : empty("Nothing has that id", "Looked among rows, among the records that wait in the log, and among dead letters. A receipt is found by its message's id."),
    found.more ? h("p", { class: "muted" }, "There are more; these are the latest.") : null);
  if (found.items.length === 1 && found.items[0].messageId === q.toLowerCase()) location.replace(`#/message/${found.items[0].messageId}`);
}
