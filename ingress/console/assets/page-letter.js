// One dead letter: why it is one, where it stood, and what is in it.

import { get } from "./api.js";
import { copyable, empty, fill, h, mixed } from "./dom.js";
import { clock, count } from "./format.js";
import { letterActions } from "./letter-actions.js";
import { letterAddress } from "./letter-groups.js";

export function letterPage(root, { id, session }) {
  const body = h("div", { class: "stack" }, h("p", { class: "muted" }, "Reading …"));
  root.append(h("h1", null, `Dead letter ${id}`), body);
  const read = () =>
    get(`api/dead-letters/${id}`).then(
      (one) =>
        fill(
          body,
          one.state === "pending"
            ? h(
                "div",
                { class: "actions" },
                letterActions(session, `dead letter ${one.id}`, { ids: [one.id] }, read),
              )
            : null,
          h(
            "dl",
            { class: "facts" },
            facts(one).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
          ),
          h("h2", null, "Headers"),
          headers(one.headers),
          h(
            "h2",
            null,
            "Body ",
            h(
              "small",
              null,
              `${count(one.size)} bytes${one.body === null ? ", not UTF-8: shown in base64" : ""}`,
            ),
          ),
          h("pre", { class: "content", tabindex: 0 }, one.body ?? one.bodyBase64),
        ),
      (error) =>
        fill(
          body,
          error.status === 404
            ? empty("There is no such dead letter")
            : h("p", { class: "problem" }, error.message),
        ),
    );
  read();
}

function facts(one) {
  const cause =
    one.cause && h("a", { href: letterAddress({ reason: one.reason, cause: one.cause }) }, one.cause);
  return [
    ["State", h("span", { class: `state ${one.state}` }, one.state)],
    ["Reason", one.reason],
    ["Error", one.error],
    ["Cause", one.cause === one.error ? null : cause],
    ["Attempts", one.attempts],
    ["Redriven before", one.redrives],
    ["Failed", clock(one.failedAt)],
    ["Kind", one.kind],
    ["Message", one.messageId && h("a", { href: `#/message/${one.messageId}` }, copyable(one.messageId))],
    [
      "Conversation",
      one.conversationId &&
        h("a", { href: letterAddress({ conversation: one.conversationId }) }, copyable(one.conversationId)),
    ],
    ["Stood at", mixed`${one.transport} ${one.topic}, partition ${one.partition}, ${one.offset}`],
    ["Key", one.key && copyable(one.key)],
    ["Resolved", one.resolvedAt && mixed`${clock(one.resolvedAt)} by ${one.resolvedBy}: ${one.resolvedWhy}`],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
}

function headers(found) {
  if (!found.length) return h("p", { class: "muted" }, "None.");
  return h(
    "dl",
    { class: "facts" },
    found.map((header) => h("div", null, h("dt", null, header.name), h("dd", null, header.value))),
  );
}
