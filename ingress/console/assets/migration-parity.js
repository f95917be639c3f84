// How alike the two logs are, by class, with samples of what differs.

import { copyable, empty, fill, h, mixed, row, table } from "./dom.js";
import { ago, clock, count, plural } from "./format.js";

const CLASSES = {
  matched: "the same in both logs",
  missing_in_shadow: "missing in the shadow",
  missing_in_primary: "missing in the primary",
  different_bytes: "different bytes",
  order_differs: "another order",
  order_overlapped: "another order, sent at once: allowed",
  order_backfilled: "late by a backfill: allowed",
  duplicate: "duplicates",
  conflict: "two bodies under one key: one is a dead letter",
  not_yet_comparable: "too young to compare",
  trimmed: "trimmed: can't be compared",
};
const DIFFERENT = new Set(["missing_in_shadow", "missing_in_primary", "different_bytes", "order_differs"]);
// What to do about them, as RUNBOOKS.md has it.
const REMEDIES = {
  missing_in_shadow: "crossfade migrate backfill appends what the shadow lacks.",
  missing_in_primary:
    "Messages in the shadow alone were written by somebody else, or the primary lost them: " +
    "crossfade audit says which.",
  different_bytes: "Bytes must never differ: go back one phase, and report it.",
  order_differs: "The order must never differ: go back one phase, and report it.",
};
const SAMPLES = [
  { title: "Finding" },
  { title: "Partition", numeric: true },
  { title: "Message" },
  { title: "In the primary" },
  { title: "In the shadow" },
  { title: "Detail" },
];

export function showParity(root, found) {
  if (!found) {
    fill(
      root,
      h("h2", null, "Parity"),
      empty(
        "No comparison has run in the last hour",
        "While both logs are written, one process compares them all the time. In a terminal, crossfade migrate " +
          "parity does it once.",
      ),
    );
    return;
  }
  const verdict = found.differing ? "red" : found.compared ? "green" : "unknown";
  const counted = Object.entries(found.counts).filter(([, number]) => number);
  fill(
    root,
    h(
      "div",
      { class: "head" },
      h("h2", null, `Parity: ${found.primary} and ${found.shadow}`),
      h(
        "span",
        { class: `state ${verdict}` },
        found.differing ? `${count(found.differing)} differ` : found.compared ? "equal" : "nothing compared",
      ),
      h(
        "span",
        { class: "muted" },
        `${plural(found.compared, "message", "messages")} compared since ` +
          `${clock(found.since)}, last ${ago(found.until)}; ${plural(found.lag, "record", "records")} behind`,
      ),
    ),
    h(
      "dl",
      { class: "facts" },
      counted.map(([name, number]) =>
        h(
          "div",
          { class: DIFFERENT.has(name) ? "problem" : null },
          h("dt", null, CLASSES[name] ?? name),
          h("dd", null, h("strong", null, count(number))),
        ),
      ),
    ),
    found.differing
      ? h(
          "p",
          { class: "muted after" },
          counted
            .map(([name]) => REMEDIES[name])
            .filter(Boolean)
            .join(" "),
        )
      : null,
    found.samples.length
      ? [h("h2", { class: "after" }, "Samples"), table(SAMPLES, found.samples.map(sample))]
      : null,
  );
}

function sample(one) {
  const correlated = one.correlationId && one.correlationId !== one.messageId;
  return row(SAMPLES, [
    CLASSES[one.result] ?? one.result,
    one.partition,
    one.messageId
      ? h(
          "div",
          null,
          h("a", { href: `#/message/${one.messageId}` }, copyable(one.messageId)),
          correlated ? h("small", null, mixed`correlation id ${one.correlationId}`) : null,
        )
      : "none that can be read",
    one.primaryOffset ?? "not there",
    one.shadowOffset ?? "not there",
    h(
      "div",
      null,
      one.detail,
      one.traceUrl && /^https?:/.test(one.traceUrl)
        ? h("small", null, h("a", { href: one.traceUrl, rel: "noreferrer", target: "_blank" }, "trace ↗"))
        : null,
    ),
  ]);
}
