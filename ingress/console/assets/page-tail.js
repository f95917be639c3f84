// Messages as they are appended, followed live: what it shows, and what waits while paused, is bounded.

import { button, copyable, empty, fill, h, row, say, table } from "./dom.js";
import { count, plural, precise, STATES } from "./format.js";
import { placeLink } from "./page-browse.js";
import { listed } from "./page-find.js";

const SHOWN = 300,
  HELD = 500;
const LONGEST = 10000,
  SILENT = 12000; // milliseconds
const HEADINGS = [
  { title: "Appended" },
  { title: "State" },
  { title: "Conversation" },
  { title: "Sender" },
  { title: "Content" },
  { title: "Place" },
];
const FILTERS = [
  ["conversation", "Conversation"],
  ["sender", "Sender"],
  ["text", "Text in the content"],
];

export function tailPage(root, { query }) {
  const chosen = Object.fromEntries(FILTERS.map(([name]) => [name, query.get(name) ?? ""]));
  const status = h("span", { class: "muted", role: "status" }, "Connecting …");
  const pause = button("Pause", () => hold(!paused), { "aria-pressed": "false" });
  const clear = button("Clear", () => {
    lines.clear();
    fill(body);
    settle();
  });
  const grid = table(HEADINGS, []);
  const body = grid.tBodies[0];
  const nothing = empty(
    "Nothing was appended since you came",
    "Messages stand here, the newest first, as they are appended.",
  );
  root.append(
    h("h1", null, "Tail"),
    filterForm(chosen),
    h("div", { class: "head" }, pause, clear, status),
    nothing,
    grid,
  );

  const lines = new Map(); // by place: the row, and the cell of its state
  const byMessage = new Map();
  let paused = false,
    waiting = [],
    dropped = 0,
    told = 0,
    skipped = 0,
    trouble = null,
    log = "";

  function hold(now) {
    paused = now;
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) {
      waiting.forEach(show);
      waiting = [];
      skipped += dropped;
      dropped = 0;
    }
    settle();
  }
  function settle() {
    nothing.hidden = lines.size > 0;
    grid.hidden = !lines.size;
    say(pause, paused ? `Resume${waiting.length ? ` (${waiting.length} more)` : ""}` : "Pause");
    const passed = skipped + dropped;
    say(
      status,
      trouble ??
        `Following ${log}: ${plural(told, "record", "records")}${
          passed ? `, ${count(passed)} passed over because they came too fast` : ""
        }${paused ? "; paused" : ""}.`,
    );
    status.classList.toggle("problem", trouble !== null);
  }
  function show(line) {
    const now = line.error ? "" : (line.state ?? "pending");
    const state = h("span", { class: `state ${now}` }, STATES[now] ?? "no message");
    const element = row(HEADINGS, [
      precise(line.at),
      line.messageId ? h("a", { href: `#/message/${line.messageId}` }, state) : state,
      line.conversationId === null ? null : listed("conversation", line.conversationId),
      line.senderId === null ? null : listed("sender", line.senderId),
      line.error ?? line.content,
      h("a", { href: placeLink(line) }, copyable(line.place)),
    ]);
    element.cells[4].classList.add("says");
    body.prepend(element);
    lines.set(line.place, { element, messageId: line.messageId });
    if (line.messageId) byMessage.set(line.messageId, state);
    while (lines.size > SHOWN) {
      const [oldest, { element: old, messageId }] = lines.entries().next().value;
      lines.delete(oldest);
      old.remove();
      if (byMessage.get(messageId)?.isConnected === false) byMessage.delete(messageId);
    }
  }
  function take(news) {
    log = news.log;
    trouble = news.error ? `${log} does not answer: ${news.error}. It is tried again.` : null;
    told += news.lines.length;
    skipped += news.skipped;
    for (const line of news.lines)
      if (!paused) show(line);
      else if (waiting.length < HELD) waiting.push(line);
      else dropped += 1;
    for (const { messageId, state } of news.fates) {
      const held = waiting.find((line) => line.messageId === messageId);
      if (held) held.state = state;
      const shown = byMessage.get(messageId);
      if (!shown) continue;
      shown.className = `state ${state}`;
      say(shown, STATES[state]);
    }
    settle();
  }
  return follow(chosen, take, (text) => {
    trouble = text;
    settle();
  });
}

function filterForm(chosen) {
  const inputs = FILTERS.map(([name, label]) => {
    const input = h("input", {
      name,
      value: chosen[name],
      maxlength: 256,
      autocomplete: "off",
      spellcheck: "false",
    });
    return { input, label: h("label", null, label, input) };
  });
  return h(
    "form",
    {
      class: "fields",
      onsubmit: (event) => {
        event.preventDefault();
        const given = inputs
          .map(({ input }) => [input.name, input.value.trim()])
          .filter(([, value]) => value);
        location.hash = `#/tail?${new URLSearchParams(given)}`;
      },
    },
    inputs.map(({ label }) => label),
    h("button", { type: "submit" }, "Follow these"),
  );
}

// Follow until the function that is returned is called; what is lost is made again.
function follow(chosen, take, fail) {
  const given = new URLSearchParams(Object.entries(chosen).filter(([, value]) => value));
  let source = null,
    timer = null,
    delay = 1000,
    ended = false,
    heard = Date.now();
  const connect = () => {
    source = new EventSource(`api/console/tail/events?${given}`);
    source.addEventListener("news", (event) => {
      delay = 1000;
      heard = Date.now();
      take(JSON.parse(event.data));
    });
    source.addEventListener("end", () => {
      stop();
      document.dispatchEvent(new Event("signed-out"));
    });
    source.addEventListener("error", again);
  };
  const again = () => {
    source?.close();
    if (ended) return;
    fail(
      "The connection is lost, or too many follow already. It is tried again; messages that come meanwhile are not shown.",
    );
    clearTimeout(timer);
    timer = setTimeout(connect, delay);
    delay = Math.min(LONGEST, delay * 2);
    heard = Date.now() + delay;
  };
  // A connection that is cut without a word is noticed by its silence.
  const watch = setInterval(() => {
    if (Date.now() - heard > SILENT) again();
  }, 1000);
  const stop = () => {
    ended = true;
    source?.close();
    clearTimeout(timer);
    clearInterval(watch);
  };
  connect();
  return stop;
}
