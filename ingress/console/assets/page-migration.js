// Where the migration stands, what keeps the next step, how alike the logs are, what happened.

import { get, post } from "./api.js";
import { ask } from "./dialog.js";
import { button, copyable, empty, fill, h, mixed, row, table } from "./dom.js";
import { ago, clock, count, plural, span } from "./format.js";
import { ranges } from "./page-now.js";

const CLASSES = {
  matched: "the same in both logs", missing_in_shadow: "missing in the shadow", missing_in_primary: "missing in the primary",
  different_bytes: "different bytes", order_differs: "another order", order_overlapped: "another order, sent at once: allowed",
  order_backfilled: "late by a backfill: allowed", duplicate: "duplicates",
  conflict: "two bodies under one key: one is a dead letter", not_yet_comparable: "too young to compare", trimmed: "trimmed: can't be compared",
};
const DIFFERENT = new Set(["missing_in_shadow", "missing_in_primary", "different_bytes", "order_differs"]);
// What to do about them, as RUNBOOKS.md has it.
const REMEDIES = {
  missing_in_shadow: "What the shadow lacks is appended by crossfade migrate backfill.",
  missing_in_primary: "What stands in the shadow alone was written by somebody else, or the primary lost it: crossfade audit tells.",
  different_bytes: "Different bytes may not be: go back one phase, and report it.",
  order_differs: "Another order may not be: go back one phase, and report it.",
};
const MARKS = { green: "✓ green", red: "✕ red", unknown: "? unknown" };

export function migrationPage(root, { live, session }) {
  const stand = h("div"), gates = h("div", { class: "pair" }), parity = h("section"), processes = h("section"), events = h("section");
  root.append(h("h1", null, "Migration"), stand, gates, parity, processes, events);
  const state = { session, live, view: null, ended: false, timer: null, said: "", steps: {} };

  const read = async () => {
    clearTimeout(state.timer);
    try {
      const view = await get("api/console/migration");
      if (state.ended) return;
      state.view = view;
      const key = JSON.stringify(view);
      if (key !== state.said) { state.said = key; show(); }
      const settled = view.stand?.phase === view.stand?.target;
      if (view.stand && !settled && view.reached && session.mayAct) {
        // Nothing to decide any more: every process is there, and somebody has to write it down.
        if ((await post("api/console/migration/complete")).recorded) { read(); return; }
      }
    } catch (error) {
      if (!state.ended && !state.view) fill(stand, error.status === 404
        ? empty("This service does not take part in a migration", "It was put together without one.")
        : h("p", { class: "problem" }, error.message));
    }
    if (!state.ended) state.timer = setTimeout(read, 2000);
  };

  function show() {
    const { phases, stand: at } = state.view;
    if (!at) { fill(stand, empty("No process has said yet what it runs", "The migration begins at the phase of the settings of the first one that starts.")); return; }
    const moving = at.phase !== at.target;
    fill(stand,
      h("ol", { class: "phases" }, phases.map((one) => h("li", {
        class: one.number === at.phase ? "here" : moving && one.number === at.target ? "target" : one.number < at.phase ? "past" : null,
        "aria-current": one.number === at.phase ? "step" : null,
      }, h("strong", null, `${one.number} ${one.name}`), h("small", null, one.what)))),
      h("p", { class: "muted after" }, mixed`${moving ? `On the way from ${at.phase} to ${at.target}` : `Phase ${at.phase} since ${clock(at.reachedAt)}`}, by ${at.changedBy}: ${at.why}`),
      moving ? h("div", { class: "sentence warning" }, h("span", { class: "mark", "aria-hidden": "true" }, "!"), h("div", null,
        h("p", { class: "what" }, `Restart the processes, one after another, with the settings of phase ${at.target} ${phases[at.target].name}.`),
        h("p", null, settings(phases[at.target])),
        h("p", { class: "next" }, state.view.reachedWhy))) : null,
      at.queued ? h("div", { class: "sentence notice" }, h("span", { class: "mark", "aria-hidden": "true" }, "…"), h("div", null,
        h("p", { class: "what" }, mixed`A step to phase ${at.queued.to} is queued by ${at.queued.who} until ${clock(at.queued.until)}: ${at.queued.why}`),
        h("p", { class: "next" }, `It waits for ${at.queued.red.join(", ") || "nothing any more"}.`),
        session.mayAct ? button("Take it away …", () => ask({
          title: "Take the queued step away", verb: "Take it away", danger: true,
          act: ({ why }) => post("api/console/migration/cancel", { why }),
        }).then((done) => { if (done) read(); })) : null)) : null);
    if (state.judgedEpoch !== at.epoch) { state.judgedEpoch = at.epoch; judge("forward"); judge("back"); }
    showParity();
    fill(events, h("h2", null, "History"), state.view.events.length ? table(HISTORY, state.view.events.map((one) => row(HISTORY, [
      clock(one.at), one.kind, one.fromPhase === one.toPhase ? one.toPhase : `${one.fromPhase} → ${one.toPhase}`, one.who,
      h("div", null, one.why, one.red.length ? h("small", { class: "problem" }, `not green then: ${one.red.join(", ")}`) : null)]))) : empty("Nothing happened yet"));
  }

  function judge(direction) {
    state.steps[direction] ??= h("section", { class: "card", "aria-label": direction === "forward" ? "Next step" : "Step back" });
    const card = state.steps[direction];
    if (!card.parentNode) gates.append(card);
    fill(card, h("h2", null, direction === "forward" ? "Next step" : "Step back"), h("p", { class: "muted" }, "Judging the gates; comparing the logs takes some seconds …"));
    get("api/console/migration/gates", { direction }).then((step) => { if (!state.ended) showStep(card, step); },
      (error) => { if (!state.ended) fill(card, h("h2", null, direction === "forward" ? "Next step" : "Step back"), h("p", { class: "problem" }, error.message), button("Judge again", () => judge(direction))); });
  }

  function showStep(card, step) {
    const forward = step.direction === "forward";
    const name = (number) => `${number} ${state.view.phases[number].name}`;
    if (step.refusal) { fill(card, h("h2", null, forward ? "Next step" : "Step back"), h("p", { class: "muted" }, step.refusal)); return; }
    fill(card,
      h("div", { class: "head" }, h("h2", null, `${forward ? "Advance" : "Roll back"}: ${name(step.origin)} → ${name(step.to)}`),
        h("span", { class: `state ${step.ready ? "green" : step.gates.some((one) => one.verdict === "red") ? "red" : "unknown"}` }, step.ready ? "ready" : "not ready")),
      step.note ? h("p", { class: "muted" }, step.note) : null,
      h("ul", { class: "gates" }, step.gates.map((one) => h("li", null,
        h("span", { class: `state ${one.verdict}` }, MARKS[one.verdict]), h("strong", null, one.name), h("span", null, one.reason)))),
      h("div", { class: "actions" },
        session.mayAct ? button(forward ? "Advance …" : "Roll back …", () => take(step), { class: step.ready && forward ? "primary" : null, disabled: !passable(step) }) : null,
        button("Judge again", () => judge(step.direction)), h("small", null, `judged ${clock(step.judgedAt)}`)));
  }

  const passable = (step) => step.gates.every((one) => one.verdict === "green" || one.overridable);

  function take(step) {
    const phase = state.view.phases[step.to];
    const passed = step.gates.filter((one) => one.verdict !== "green");
    ask({
      title: `From phase ${step.origin} to ${step.to} ${phase.name}`, verb: step.direction === "forward" ? "Advance" : "Roll back", danger: passed.length > 0,
      preview: async () => ({ text: [h("p", null, phase.what), h("p", { class: "muted" }, "Then every process is to be restarted with:"), settings(phase),
        passed.length ? h("p", { class: "problem" }, `Not green: ${passed.map((one) => `${one.name} (${one.reason})`).join("; ")}. The gates are judged again first; what you give as the reason is kept for each of these.`) : null] }),
      act: ({ why }) => post("api/console/migration/steps", { direction: step.direction, epoch: step.epoch, why, overrides: passed.map((one) => ({ gate: one.name, why })) }),
    }).then((done) => { if (done) read(); });
  }

  function showParity() {
    const found = state.view.parity;
    if (!found) { fill(parity, h("h2", null, "Parity"), empty("No comparison has run in the last hour", "While both logs are written, one process compares them all the time. In a terminal, crossfade migrate parity does it once.")); return; }
    const samples = found.samples.map((one) => row(SAMPLES, [
      CLASSES[one.result] ?? one.result, one.partition,
      one.messageId ? h("div", null, h("a", { href: `#/message/${one.messageId}` }, copyable(one.messageId)), one.correlationId && one.correlationId !== one.messageId ? h("small", null, mixed`correlation id ${one.correlationId}`) : null) : "none that can be read",
      one.primaryOffset ?? "not there", one.shadowOffset ?? "not there",
      h("div", null, one.detail, one.traceUrl && /^https?:/.test(one.traceUrl) ? h("small", null, h("a", { href: one.traceUrl, rel: "noreferrer", target: "_blank" }, "trace ↗")) : null)]));
    fill(parity,
      h("div", { class: "head" }, h("h2", null, `Parity: ${found.primary} and ${found.shadow}`),
        h("span", { class: `state ${found.differing ? "red" : found.compared ? "green" : "unknown"}` },
          found.differing ? `${count(found.differing)} differ` : found.compared ? "equal" : "nothing compared"),
        h("span", { class: "muted" }, `${plural(found.compared, "message", "messages")} compared since ${clock(found.since)}, last ${ago(found.until)}; ${plural(found.lag, "record", "records")} behind`)),
      h("dl", { class: "facts" }, Object.entries(found.counts).filter(([, number]) => number).map(([name, number]) =>
        h("div", { class: DIFFERENT.has(name) ? "problem" : null }, h("dt", null, CLASSES[name] ?? name), h("dd", null, h("strong", null, count(number)))))),
      found.differing ? h("p", { class: "muted after" }, Object.keys(found.counts).filter((name) => found.counts[name] && REMEDIES[name]).map((name) => REMEDIES[name]).join(" ")) : null,
      samples.length ? [h("h2", { class: "after" }, "Samples"), table(SAMPLES, samples)] : null);
  }

  let saidProcesses = "";
  const unlisten = live.listen((status) => {
    const now = JSON.stringify(status.processes?.map((one) => [one.member, one.phase, one.live, one.owned, one.shadow]) ?? null);
    if (now === saidProcesses) return;
    saidProcesses = now;
    fill(processes, h("h2", null, "Processes"), status.processes === null ? empty("Unknown", "PostgreSQL does not answer.")
      : status.processes.length ? table(PROCESSES, status.processes.map((one) => row(PROCESSES, [
        h("div", null, h("strong", null, one.member), one.live ? null : h("small", { class: "problem" }, `not heard of for ${span(one.silentSeconds)}`)),
        one.phase ?? "none", one.settings, Object.entries(one.owned).map(([log, owned]) => `${log}: ${ranges(owned)}`).join("; ") || "nothing",
        one.shadow ? h("div", null, `breaker ${one.shadow.breaker ?? "unknown"}`, h("small", null, `${count(one.shadow.waiting ?? null)} wait, ${count(one.shadow.dropped ?? null)} dropped`)) : "none",
      ], { class: one.live ? null : "gone" }))) : empty("No process reports yet"));
  });
  read();
  return () => { state.ended = true; clearTimeout(state.timer); unlisten(); };
}

const HISTORY = [{ title: "When" }, { title: "What" }, { title: "Phases" }, { title: "Who" }, { title: "Why" }];
const SAMPLES = [{ title: "Finding" }, { title: "Partition", numeric: true }, { title: "Message" }, { title: "In the primary" }, { title: "In the shadow" }, { title: "Detail" }];
const PROCESSES = [{ title: "Process" }, { title: "Phase", numeric: true }, { title: "Runs" }, { title: "Owns" }, { title: "Shadow" }];

function settings(phase) {
  return h("pre", { class: "content small" }, Object.entries(phase.settings).map(([name, value]) => value ? `${name}=${value}` : `# unset ${name}`).join("\n"));
}
