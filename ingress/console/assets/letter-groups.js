// Pending dead letters by their cause, a page of groups at a time.

import { get } from "./api.js";
import { button, empty, fill, h, row, table } from "./dom.js";
import { ago, count, plural } from "./format.js";
import { letterActions } from "./letter-actions.js";

const SAMPLED = 1000;
const HEADINGS = [
  { title: "Cause" },
  { title: "Letters", numeric: true },
  { title: "Failed" },
  { title: "Act on the group" },
];

// The address of a list of letters.
export function letterAddress(filter) {
  const given = Object.entries(filter).filter(([, value]) => value);
  const query = new URLSearchParams(given).toString();
  return query ? `#/dead-letters?${query}` : "#/dead-letters";
}

export function showGroups(root, { session, again }) {
  let rows = [],
    ended = false;
  const read = (after) =>
    get("api/console/dead-letters", { after }).then(
      ({ items, next, ungrouped }) => {
        if (ended) return;
        rows = (after ? rows : []).concat(items.map((one) => group(one, session, again)));
        const waiting = ungrouped
          ? h(
              "p",
              { class: "muted" },
              `${plural(ungrouped, "letter", "letters")} of an older ` +
                "release have no cause yet: they are given one, a thousand at a time. They are listed below.",
            )
          : null;
        fill(
          root,
          rows.length ? [h("h2", null, "By cause"), table(HEADINGS, rows)] : null,
          rows.length || ungrouped
            ? null
            : empty(
                "No dead letters wait",
                "Every record was persisted, or its dead letter was handled. Actions shows what was done about earlier ones.",
              ),
          waiting,
          next ? button("Show more causes", () => read(next)) : null,
        );
      },
      (error) => {
        if (!ended) fill(root, h("p", { class: "problem" }, error.message));
      },
    );
  read();
  return {
    read: () => read(),
    end: () => {
      ended = true;
    },
  };
}

function group(one, session, again) {
  const filter = { reason: one.reason, cause: one.cause };
  const many = one.letters > SAMPLED;
  const known = [
    one.reason,
    one.conversations
      ? `${many ? `the latest ${count(SAMPLED)} are` : ""} in ${plural(
          one.conversations,
          "conversation",
          "conversations",
        )}`.trim()
      : null,
    one.redrives ? `redriven up to ${plural(one.redrives, "time", "times")} already` : null,
  ]
    .filter(Boolean)
    .join("; ");
  return row(HEADINGS, [
    h(
      "div",
      null,
      h("strong", null, one.cause),
      h("small", null, known),
      one.error === one.cause ? null : h("small", { class: "clamped" }, "Latest: ", one.error),
    ),
    `${count(one.letters)}${one.more ? "+" : ""}`,
    h(
      "div",
      null,
      ago(one.newest),
      ago(one.newest) === ago(one.oldest) ? null : h("small", null, `the oldest ${ago(one.oldest)}`),
    ),
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button", href: letterAddress(filter) }, "Show"),
      letterActions(session, `all of one cause (${one.reason})`, { filter }, again),
    ),
  ]);
}
