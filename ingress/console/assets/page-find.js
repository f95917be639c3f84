// Find a message by whatever is at hand, or list those of a conversation, a sender, the last minutes.

import { get } from "./api.js";
import { button, copyable, empty, fill, h, row, table } from "./dom.js";
import { precise, STATES } from "./format.js";
import { placeLink } from "./page-browse.js";

const HEADINGS = [
  { title: "Accepted" },
  { title: "State" },
  { title: "Message" },
  { title: "Conversation" },
  { title: "Sender" },
  { title: "Client message id" },
  { title: "Found as" },
];
const NARROWED = ["conversation", "sender", "minutes"];

// A link to the list of a conversation's, or a sender's, messages.
export function listed(what, id) {
  return h("a", { href: `#/find?${new URLSearchParams({ [what]: id })}` }, id);
}

export function findPage(root, { query }) {
  const q = query.get("q");
  const chosen = Object.fromEntries(NARROWED.map((name) => [name, query.get(name) ?? ""]));
  const listing = !q && Object.values(chosen).some(Boolean);
  const results = h("div", { class: "stack", "aria-live": "polite" });
  const one = searchForm(q ?? "");
  root.append(h("h1", null, "Find a message"), one.form, listForm(chosen, listing), results);
  if (q) search(results, q);
  else if (listing) list(results, chosen);
  else {
    fill(
      results,
      empty(
        "One box for every id",
        "It takes every id of a message, the first six characters of one, the number of a dead letter, and a " +
          "place in a log, such as redis 7:1795658271335-0 or kafka 3/120. A message that is not a row yet is " +
          "found in the log or among the dead letters.",
      ),
    );
    one.box.focus();
  }
}

function searchForm(q) {
  const box = h("input", {
    type: "search",
    name: "q",
    value: q,
    required: true,
    maxlength: 256,
    placeholder: "any id or its beginning, a conversation, a place in a log",
    "aria-label": "What to find",
    autocomplete: "off",
    spellcheck: "false",
  });
  const form = h(
    "form",
    {
      class: "find",
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        location.hash = `#/find?${new URLSearchParams({ q: box.value.trim() })}`;
      },
    },
    box,
    h("button", { class: "primary", type: "submit" }, "Find"),
  );
  return { box, form };
}

function listForm(chosen, open) {
  const field = (name, label, options) => {
    const input = h("input", {
      name,
      value: chosen[name],
      autocomplete: "off",
      spellcheck: "false",
      ...options,
    });
    return { input, label: h("label", null, label, input) };
  };
  const conversation = field("conversation", "Conversation", { maxlength: 256 });
  const sender = field("sender", "Sender", { maxlength: 256 });
  const minutes = field("minutes", "Last minutes", {
    type: "number",
    min: 1,
    max: 527040,
    placeholder: "any time",
  });
  const form = h(
    "form",
    {
      class: "fields",
      onsubmit: (event) => {
        event.preventDefault();
        const given = [conversation, sender, minutes]
          .map(({ input }) => [input.name, input.value.trim()])
          .filter(([, value]) => value);
        location.hash = `#/find?${new URLSearchParams(given.length ? given : [["minutes", "60"]])}`;
      },
    },
    conversation.label,
    sender.label,
    minutes.label,
    h("button", { type: "submit" }, "List"),
  );
  return h(
    "details",
    { open },
    h("summary", null, "List messages of a conversation, a sender, or the last minutes"),
    form,
  );
}

function search(results, q) {
  fill(results, h("p", { class: "muted" }, "Looking …"));
  get("api/console/search", { q }).then(
    (found) => {
      fill(
        results,
        problem(found.incomplete),
        found.note ? h("p", null, found.note) : null,
        found.items.length ? table(HEADINGS, found.items.map(line)) : nothing(q),
        found.more ? h("p", { class: "muted" }, "There are more; these are the latest.") : null,
      );
      const [only, ...others] = found.items;
      if (only && !others.length && only.matched.includes("message id"))
        location.replace(`#/message/${only.messageId}`);
    },
    (error) => fill(results, problem(error.message)),
  );
}

function nothing(q) {
  return [
    empty(
      "Nothing has that id",
      "Searched the rows, the records that wait in the log, and the dead letters. " +
        "A receipt is found by its message's id.",
    ),
    h(
      "p",
      null,
      h(
        "a",
        { href: `#/find?${new URLSearchParams({ sender: q })}` },
        "List the messages of a sender of that name",
      ),
    ),
  ];
}

function list(results, chosen) {
  const rows = [];
  const body = h("div");
  const more = h("div", { class: "actions" });
  fill(results, body, more);
  const read = (after) => {
    fill(more, h("p", { class: "muted" }, "Looking …"));
    return get("api/console/messages", { ...chosen, after }).then(
      (page) => {
        rows.push(...page.items.map(line));
        fill(
          body,
          problem(page.incomplete),
          rows.length
            ? table(HEADINGS, rows)
            : page.next
              ? null
              : empty("There are none", "No row, no waiting record and no pending dead letter matches."),
        );
        const next = page.lookedBackTo ? "Look further back" : "Show more";
        fill(
          more,
          page.lookedBackTo ? h("span", null, `Looked back to ${precise(page.lookedBackTo)}. `) : null,
          page.next ? button(next, () => read(page.next)) : null,
          rows.length && !page.next ? h("span", { class: "muted" }, "There are no others.") : null,
        );
      },
      (error) => fill(more, problem(error.message)),
    );
  };
  read();
}

function line(one) {
  return row(HEADINGS, [
    one.acceptedAt ? precise(one.acceptedAt) : "unknown",
    h("span", { class: `state ${one.state}` }, STATES[one.state]),
    named(one),
    one.conversationId === null ? null : listed("conversation", one.conversationId),
    one.senderId === null ? null : listed("sender", one.senderId),
    one.clientMessageId,
    one.matched.join(", "),
  ]);
}

function named(one) {
  const letter = one.deadLetterId
    ? h("a", { href: `#/dead-letter/${one.deadLetterId}` }, `Dead letter ${one.deadLetterId}`)
    : null;
  if (one.messageId === null)
    return (
      letter ?? (one.position ? h("a", { href: placeLink(one.position) }, "See the record") : "no message")
    );
  return h(
    "div",
    null,
    h("a", { href: `#/message/${encodeURIComponent(one.messageId)}` }, copyable(one.messageId)),
    letter ? h("small", null, letter) : null,
  );
}

const problem = (text) => (text ? h("p", { class: "problem" }, text) : null);
