// Where the migration stands, what keeps the next step, how alike the logs are, what happened.

import { get, post } from "./api.js";
import { ask } from "./dialog.js";
import { button, empty, fill, h, mixed, row, table } from "./dom.js";
import { clock, count, span } from "./format.js";
import { showParity } from "./migration-parity.js";
import { phaseSettings, StepCard } from "./migration-step.js";
import { ranges } from "./page-now.js";

const HISTORY = [
  { title: "When" },
  { title: "What" },
  { title: "Phases" },
  { title: "Who" },
  { title: "Why" },
];
const PROCESSES = [
  { title: "Process" },
  { title: "Phase", numeric: true },
  { title: "Runs" },
  { title: "Owns" },
  { title: "Shadow" },
];

export function migrationPage(root, { live, session }) {
  const old = h("p", { class: "problem", role: "alert", hidden: true }),
    stand = h("div"),
    gates = h("div", { class: "pair" }),
    parity = h("section");
  const processes = h("section"),
    events = h("section");
  root.append(h("h1", null, "Migration"), old, stand, gates, parity, processes, events);
  fill(stand, h("p", { class: "muted" }, "Looking …"));
  let view = null,
    ended = false,
    timer = null,
    asked = 0,
    shown = "",
    judgedEpoch = null;
  const cards = ["forward", "back"].map(
    (direction) => new StepCard({ direction, session, phases: () => view.phases, taken: () => read() }),
  );

  const read = async () => {
    clearTimeout(timer);
    asked += 1;
    const mine = asked;
    const isOld = () => ended || mine !== asked;
    try {
      const next = await get("api/console/migration");
      if (isOld()) return;
      old.hidden = true;
      view = next;
      const key = JSON.stringify(view);
      if (key !== shown) {
        shown = key;
        show();
      }
      const moving = view.stand && view.stand.phase !== view.stand.target;
      if (moving && view.reached && session.mayAct) {
        // Nothing to decide any more: every process is there, and somebody has to write it down.
        if ((await post("api/console/migration/complete")).recorded) {
          read();
          return;
        }
      }
    } catch (error) {
      if (isOld()) return;
      if (view) {
        fill(old, `What stands here is from before: ${error.message} It is asked again.`);
        old.hidden = false;
      } else
        fill(
          stand,
          error.status === 404
            ? empty("This service does not take part in a migration", "It was put together without one.")
            : h("p", { class: "problem" }, error.message),
        );
    }
    if (!isOld()) timer = setTimeout(read, 2000);
  };

  function show() {
    const { stand: at } = view;
    if (!at) {
      fill(
        stand,
        empty(
          "No process has said yet what it runs",
          "The migration begins at the phase of the settings of the first one that starts.",
        ),
      );
      return;
    }
    fill(stand, position(view), at.queued ? queued(at.queued, at.epoch) : null);
    if (judgedEpoch !== at.epoch) {
      judgedEpoch = at.epoch;
      for (const card of cards) {
        if (!card.element.parentNode) gates.append(card.element);
        card.judge();
      }
    }
    showParity(parity, view.parity);
    fill(
      events,
      h("h2", null, "History"),
      view.events.length ? table(HISTORY, view.events.map(event)) : empty("Nothing happened yet"),
    );
  }

  function queued(one, epoch) {
    const cancel = () =>
      ask({
        title: "Take the queued step away",
        verb: "Take it away",
        danger: true,
        act: ({ why }) => post("api/console/migration/cancel", { why, epoch }),
      }).then((done) => {
        if (done) read();
      });
    return h(
      "div",
      { class: "sentence notice" },
      h("span", { class: "mark", "aria-hidden": "true" }, "…"),
      h(
        "div",
        null,
        h(
          "p",
          { class: "what" },
          mixed`A step to phase ${one.to} is queued by ${one.who} until ${clock(one.until)}: ${one.why}`,
        ),
        h("p", { class: "next" }, `It waits for ${one.red.join(", ") || "nothing any more"}.`),
        session.mayAct ? button("Take it away …", cancel) : null,
      ),
    );
  }

  let saidProcesses = "";
  const unlisten = live.listen((status) => {
    const now = JSON.stringify(
      status.processes?.map((one) => [one.member, one.phase, one.live, one.owned, one.shadow]) ?? null,
    );
    if (now === saidProcesses) return;
    saidProcesses = now;
    fill(
      processes,
      h("h2", null, "Processes"),
      status.processes === null
        ? empty("Unknown", "PostgreSQL does not answer.")
        : status.processes.length
          ? table(PROCESSES, status.processes.map(process))
          : empty("No process reports yet"),
    );
  });
  read();
  return () => {
    ended = true;
    clearTimeout(timer);
    unlisten();
    for (const card of cards) card.end();
  };
}

function position({ phases, stand: at, reachedWhy }) {
  const moving = at.phase !== at.target;
  const place = (one) =>
    one.number === at.phase
      ? "here"
      : moving && one.number === at.target
        ? "target"
        : one.number < at.phase
          ? "past"
          : null;
  return [
    h(
      "ol",
      { class: "phases" },
      phases.map((one) =>
        h(
          "li",
          {
            class: place(one),
            "aria-current": one.number === at.phase ? "step" : null,
          },
          h("strong", null, `${one.number} ${one.name}`),
          h("small", null, one.what),
        ),
      ),
    ),
    h(
      "p",
      { class: "muted after" },
      moving
        ? mixed`On the way from ${at.phase} to ${at.target}, by ${at.changedBy}: ${at.why}`
        : mixed`Phase ${at.phase} ${way(at.pair)} since ${clock(at.reachedAt)}, by ${at.changedBy}: ${at.why}`,
    ),
    moving
      ? h(
          "div",
          { class: "sentence warning" },
          h("span", { class: "mark", "aria-hidden": "true" }, "!"),
          h(
            "div",
            null,
            h(
              "p",
              { class: "what" },
              "Restart the processes, one after another, with the settings of phase " +
                `${at.target} ${phases[at.target].name}.`,
            ),
            h("div", null, phaseSettings(phases[at.target])),
            h("p", { class: "next" }, reachedWhy),
          ),
        )
      : null,
  ];
}

const way = ({ old, new: to }) => (to ? `from ${old} to ${to}` : `of ${old}`);

function event(one) {
  return row(HISTORY, [
    clock(one.at),
    one.kind,
    one.fromPhase === one.toPhase ? one.toPhase : `${one.fromPhase} → ${one.toPhase}`,
    one.who,
    h(
      "div",
      null,
      one.why,
      Object.entries(one.passed).map(([gate, why]) =>
        h("small", null, mixed`went on although ${gate} was not green: ${why}`),
      ),
      unnamed(one).length
        ? h("small", { class: "problem" }, `not green then: ${unnamed(one).join(", ")}`)
        : null,
    ),
  ]);
}

const unnamed = (one) => one.red.filter((gate) => !(gate in one.passed));

function process(one) {
  const owned = Object.entries(one.owned)
    .map(([log, partitions]) => `${log}: ${ranges(partitions)}`)
    .join("; ");
  return row(
    PROCESSES,
    [
      h(
        "div",
        null,
        h("strong", null, one.member),
        one.live ? null : h("small", { class: "problem" }, `not heard of for ${span(one.silentSeconds)}`),
      ),
      one.phase ?? "none",
      one.settings,
      owned || "nothing",
      one.shadow
        ? h(
            "div",
            null,
            `breaker ${one.shadow.breaker ?? "unknown"}`,
            h(
              "small",
              null,
              `${count(one.shadow.waiting ?? null)} wait, ${count(one.shadow.dropped ?? null)} dropped`,
            ),
          )
        : "none",
    ],
    { class: one.live ? null : "gone" },
  );
}
