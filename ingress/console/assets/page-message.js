// One message's story as a waterfall: what happened, when, and how long it took.

import { get } from "./api.js";
import { button, copyable, empty, fill, h, mixed } from "./dom.js";
import { instant, precise, STATES, span } from "./format.js";
import { placeLink } from "./page-browse.js";
import { listed } from "./page-find.js";

const LINEAR = 2;
const AGAIN = 2000; // milliseconds after an error

export function messagePage(root, { id }) {
  const body = h("div", { class: "stack" }, h("p", { class: "muted" }, "Reading …"));
  root.append(body);
  let ended = false,
    timer = null,
    asked = 0,
    said = "";
  const read = () => {
    clearTimeout(timer);
    asked += 1;
    const mine = asked;
    const isOld = () => ended || mine !== asked;
    return get(`api/console/messages/${encodeURIComponent(id)}`).then(
      (story) => {
        if (isOld()) return;
        const now = JSON.stringify(story);
        if (now !== said) {
          said = now;
          fill(body, view(story, read));
        }
        // While it is on its way its story goes on.
        if (story.message.state === "pending") timer = setTimeout(read, 1000);
      },
      (error) => {
        if (isOld()) return;
        said = "";
        const isPassing = error.status === 0 || error.status >= 500;
        fill(
          body,
          h("h1", null, "Message"),
          error.status === 404
            ? empty(
                "There is no such message",
                "Neither a row, nor a record that waits, nor a dead letter has this id.",
              )
            : h("p", { class: "problem" }, error.message, isPassing ? " It is asked again." : null),
        );
        if (isPassing) timer = setTimeout(read, AGAIN);
      },
    );
  };
  read();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

function view({ message, steps, incomplete }, again) {
  const facts = [
    ["Message", copyable(message.messageId)],
    ["Conversation", message.conversationId && listed("conversation", message.conversationId)],
    ["Sender", message.senderId && listed("sender", message.senderId)],
    ["Recipients", message.recipientIds?.join(", ")],
    ["Client message id", message.clientMessageId && copyable(message.clientMessageId)],
    ["Correlation id", message.correlationId && copyable(message.correlationId)],
    [
      "Trace",
      message.traceUrl && /^https?:/.test(message.traceUrl)
        ? h("a", { href: message.traceUrl, rel: "noreferrer", target: "_blank" }, "Open the trace ↗")
        : message.traceId && copyable(message.traceId),
    ],
    [
      "Stands at",
      message.positions.length
        ? message.positions.map((one) =>
            h(
              "div",
              null,
              mixed`${one.transport}, partition ${one.partition}, `,
              h("a", { href: placeLink(one) }, copyable(one.offset)),
            ),
          )
        : null,
    ],
  ];
  return [
    h(
      "div",
      { class: "head" },
      h("h1", null, "Message"),
      h("span", { class: `state ${message.state}` }, STATES[message.state]),
      button("Read again", again),
    ),
    incomplete ? h("p", { class: "problem" }, incomplete) : null,
    waterfall(steps),
    h(
      "dl",
      { class: "facts" },
      facts
        .filter(([, value]) => value)
        .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
    ),
    message.content !== null && message.content !== undefined
      ? h(
          "section",
          null,
          h("h2", null, "Content ", h("small", null, message.contentType)),
          h("pre", { class: "content", tabindex: 0 }, message.content),
        )
      : null,
    message.payload
      ? h(
          "section",
          null,
          h("h2", null, "Content ", h("small", null, message.payload.contentType)),
          h(
            "p",
            null,
            h(
              "a",
              { href: message.payload.url.slice(1), download: "" },
              `${message.payload.bytes.toLocaleString("en")} bytes ↓`,
            ),
            ", SHA-256 ",
            copyable(message.payload.sha256),
          ),
        )
      : null,
  ];
}

export function waterfall(steps) {
  const times = steps
    .flatMap((one) => [one.at, one.since])
    .filter(Boolean)
    .map(instant);
  // The first step is zero: what another clock puts before it happened no earlier all the same.
  const start = times[0],
    end = Math.max(...times, start + 0.001);
  const total = end - start;
  const linear = total <= LINEAR;
  // Milliseconds and days on one scale: beyond two seconds it is logarithmic.
  const place = (time) => {
    const after = Math.max(0, time - start);
    return linear ? after / total : Math.log10(1 + after * 1000) / Math.log10(1 + total * 1000);
  };
  const ticks = linear
    ? [0, total / 4, total / 2, (3 * total) / 4, total]
    : [0, 0.01, 0.1, 1, 10, 60, 3600, 86400, 864000].filter((one) => one < total).concat(total);
  const shownTicks = ticks.filter(
    (one, index) => index === ticks.length - 1 || place(start + total) - place(start + one) > 0.12,
  );
  return h(
    "section",
    { "aria-label": "What happened" },
    h(
      "ol",
      { class: "fall" },
      h(
        "li",
        { class: "axis", "aria-hidden": "true" },
        h("span"),
        h(
          "span",
          { class: "track" },
          shownTicks.map((one) =>
            h(
              "span",
              { class: "tick", style: { left: `${place(start + one) * 100}%` } },
              one ? `+${span(one)}` : "0",
            ),
          ),
        ),
      ),
      steps.map((one) => step(one, start, place)),
    ),
    h(
      "p",
      { class: "muted" },
      `${precise(steps[0]?.at ?? steps[0]?.since)} is 0. `,
      linear ? "" : "The scale is logarithmic. ",
      "Times are those of the clocks that wrote them: ingress, log, PostgreSQL.",
    ),
  );
}

function step(one, start, place) {
  const at = one.at ? instant(one.at) : null;
  const since = one.since ? instant(one.since) : null;
  const took = at !== null && since !== null && at > since ? at - since : null;
  const left = place(Math.min(since ?? at ?? start, at ?? Infinity));
  const right = place(at ?? since ?? start);
  const partition = one.partition === null ? "" : `, partition ${one.partition}`;
  const where = one.log ? `${one.log}${partition}${one.offset ? `, at ${one.offset}` : ""}` : null;
  return h(
    "li",
    { class: `step ${one.kind}${one.failed ? " failed" : ""}` },
    h(
      "div",
      { class: "told" },
      h("strong", null, one.title),
      h(
        "small",
        null,
        [
          one.at ? `${precise(one.at)} (+${span(Math.max(0, at - start))})` : "not yet",
          took ? `took ${span(took)}` : null,
        ]
          .filter(Boolean)
          .join(" · "),
      ),
      where ? h("small", null, where) : null,
      one.detail ? h("small", { class: "why" }, one.detail) : null,
      one.deadLetterId
        ? h(
            "small",
            null,
            h("a", { href: `#/dead-letter/${one.deadLetterId}` }, `Dead letter ${one.deadLetterId}`),
          )
        : null,
    ),
    h(
      "span",
      { class: "track", "aria-hidden": "true" },
      at === null && since === null
        ? null
        : h("span", {
            class: "stretch",
            style: { left: `${left * 100}%`, width: `max(3px, ${(right - left) * 100}%)` },
          }),
    ),
  );
}
