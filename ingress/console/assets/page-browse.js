// What stands in a partition of a log: records in their order, their headers, their bytes.

import { get } from "./api.js";
import { FORMS, fromBase64, readable } from "./bytes.js";
import { button, copyable, empty, fill, h, row, table } from "./dom.js";
import { count, precise } from "./format.js";

const HEADINGS = [
  { title: "Offset" },
  { title: "Appended" },
  { title: "What it is" },
  { title: "Key" },
  { title: "Bytes", numeric: true },
  { title: "Record" },
];
const KINDS = { message: "message", receipt: "receipt", unreadable: "not one of ours" };
const PLACES = [
  ["end", "the newest"],
  ["beginning", "the oldest"],
  ["at", "an offset"],
  ["time", "a time"],
];

// Where to browse from, for a place that is known by its log, partition and offset.
export function placeLink({ transport, partition, offset }) {
  return `#/browse?${new URLSearchParams({ log: transport, partition, at: offset })}`;
}

export function browsePage(root, { query }) {
  const results = h("div", { class: "stack", "aria-live": "polite" });
  root.append(h("h1", null, "Browse a log"), results);
  let ended = false;
  get("api/console/logs").then(
    ({ items }) => {
      if (!ended) browse(root, results, items, query);
    },
    (error) => fill(results, h("p", { class: "problem" }, error.message)),
  );
  return () => {
    ended = true;
  };
}

function browse(root, results, logs, query) {
  const form = chooser(logs, query, (place) => read(place));
  const shown = select("Bodies", FORMS, "auto", () => {
    for (const again of bodies) again();
  });
  const pages = {
    older: button("Older", () => read({ before: page.first })),
    newer: button("Newer", () => read({ after: page.last })),
    newest: button("Newest", () => read({})),
  };
  const note = h("span", { class: "muted" });
  const list = h("div");
  root.insertBefore(form.element, results);
  root.insertBefore(h("div", { class: "head" }, Object.values(pages), note, shown.label), results);
  fill(results, list);
  let bodies = [],
    page = { first: null, last: null };

  // The place of an empty page is that of the one before: there may be more by now.
  function read(place) {
    const { log, topic, partition } = form.chosen();
    history.replaceState(null, "", `#/browse?${new URLSearchParams({ log, topic, partition, ...place })}`);
    return get(`api/console/logs/${encodeURIComponent(log)}/partitions/${partition}/records`, {
      topic,
      ...place,
    }).then(
      (found) => show(found, place),
      (error) => fill(list, h("p", { class: "problem" }, error.message)),
    );
  }

  function show(found, place) {
    const nothing = found.first === null;
    fill(
      note,
      nothing && place.after
        ? "Nothing newer yet."
        : nothing && place.before
          ? "Nothing older."
          : nothing
            ? null
            : found.atEnd
              ? "These are the newest."
              : found.atBeginning
                ? "These are the oldest."
                : null,
    );
    if (nothing && (place.after || place.before)) return;
    page = found;
    pages.older.disabled = found.atBeginning || nothing;
    pages.newer.disabled = nothing;
    bodies = [];
    const rows = found.items.flatMap((one) => {
      const [line, body, again] = record(one, () => shown.input.value);
      bodies.push(again);
      return [line, body];
    });
    fill(
      list,
      rows.length
        ? table(HEADINGS, rows)
        : nothing
          ? empty(
              "No record stands there",
              "The partition is empty there, or the log no longer keeps what it had.",
            )
          : empty("None of these is yours to read", "Your key is for some senders or conversations only."),
    );
  }

  const asked = Object.fromEntries(
    ["after", "before", "at", "time", "beginning"]
      .map((name) => [name, query.get(name)])
      .filter(([, value]) => value),
  );
  read(asked);
}

function select(label, options, value, onchange) {
  const input = h(
    "select",
    { onchange },
    options.map(([name, title]) => h("option", { value: name }, title)),
  );
  input.value = value;
  return { input, label: h("label", { class: "inline" }, label, input) };
}

function chooser(logs, query, go) {
  const topics = logs.flatMap(({ name }) => [
    [`${name}/messages`, name],
    [`${name}/dead_letters`, `${name}, dead letters`],
  ]);
  const wanted = `${query.get("log") ?? logs[0].name}/${query.get("topic") ?? "messages"}`;
  const log = select("Log", topics, topics.some(([name]) => name === wanted) ? wanted : topics[0][0], bound);
  const partition = h("input", {
    type: "number",
    min: 0,
    value: query.get("partition") ?? 0,
    required: true,
  });
  const kind = query.get("at")
    ? "at"
    : query.get("time")
      ? "time"
      : query.get("beginning")
        ? "beginning"
        : "end";
  const place = select("From", PLACES, kind, bound);
  const offset = h("input", {
    value: query.get("at") ?? "",
    maxlength: 64,
    autocomplete: "off",
    spellcheck: "false",
  });
  const time = h("input", { type: "datetime-local", step: 1 });
  const offsetLabel = h("label", null, "Offset", offset);
  const timeLabel = h("label", null, "Time, in this browser's zone", time);
  const element = h(
    "form",
    {
      class: "fields",
      onsubmit: (event) => {
        event.preventDefault();
        const places = {
          end: () => ({}),
          beginning: () => ({ beginning: true }),
          at: () => ({ at: offset.value.trim() }),
          time: () => ({ time: new Date(time.value).toISOString() }),
        };
        go(places[place.input.value]());
      },
    },
    log.label,
    h("label", null, "Partition", partition),
    place.label,
    offsetLabel,
    timeLabel,
    h("button", { type: "submit", class: "primary" }, "Show"),
  );

  function chosen() {
    const [name, topic] = log.input.value.split("/");
    return { log: name, topic, partition: topic === "dead_letters" ? 0 : partition.value };
  }
  function bound() {
    const { log: name, topic } = chosen();
    partition.max = topic === "dead_letters" ? 0 : logs.find((one) => one.name === name).partitions - 1;
    partition.disabled = topic === "dead_letters";
    for (const [input, label, which] of [
      [offset, offsetLabel, "at"],
      [time, timeLabel, "time"],
    ]) {
      label.hidden = place.input.value !== which;
      input.required = !label.hidden;
    }
  }
  bound();
  return { element, chosen };
}

// Its line, the line with its bytes (made when it is opened), and how to write them anew.
function record(one, form) {
  const inside = h("td", { colspan: HEADINGS.length });
  const body = h("tr", { class: "opened", hidden: true }, inside);
  const write = () => {
    if (!body.hidden) fill(inside, contents(one, form()));
  };
  const open = button(
    "Open",
    () => {
      body.hidden = !body.hidden;
      const does = body.hidden ? "Open" : "Close";
      open.setAttribute("aria-expanded", String(!body.hidden));
      open.setAttribute("aria-label", `${does} ${one.offset}`);
      open.textContent = does;
      write();
    },
    { "aria-expanded": "false", "aria-label": `Open ${one.offset}` },
  );
  const line = row(HEADINGS, [
    copyable(one.offset),
    one.appendedAt > 0 ? precise(new Date(one.appendedAt * 1000).toISOString()) : "unknown",
    one.messageId && /^[0-9a-fA-F-]{36}$/.test(one.messageId)
      ? h("a", { href: `#/message/${one.messageId}` }, KINDS[one.kind])
      : KINDS[one.kind],
    one.key,
    count(one.size),
    open,
  ]);
  return [line, body, write];
}

function contents(one, form) {
  const bytes = fromBase64(one.bodyBase64);
  const cut = bytes.length < one.bodySize;
  const { text, note } = readable(bytes, form, cut);
  const facts = [
    ["Place", copyable(one.place)],
    ["Conversation", one.conversationId],
    ["Sender", one.senderId],
    ["Not readable", one.error],
    ...one.headers.map((header) => [header.name, h("code", null, header.value)]),
  ];
  return h(
    "div",
    { class: "stack" },
    h(
      "dl",
      { class: "facts" },
      facts
        .filter(([, value]) => value)
        .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
    ),
    one.moreHeaders
      ? h("p", { class: "muted" }, `${count(one.moreHeaders)} more headers are not shown.`)
      : null,
    cut
      ? h("p", { class: "muted" }, `The first ${count(bytes.length)} of ${count(one.bodySize)} bytes.`)
      : null,
    note ? h("p", { class: "muted" }, `Shown as it is: ${note}.`) : null,
    h("pre", { class: "content small", tabindex: 0, "aria-label": `Body of ${one.offset}` }, text),
  );
}
