// Dead letters: by reason and age, one by one, back into the log, or given up.

import { get, post } from "./api.js";
import { ask } from "./dialog.js";
import { button, copyable, empty, fill, h, mixed, row, say, table } from "./dom.js";
import { ago, clock, count, plural } from "./format.js";

const AGES = { hour: "the last hour", day: "the last day", week: "the last week", older: "older than a week" };

export function lettersPage(root, { session, query }) {
  const groups = h("div", { "aria-live": "polite" });
  const chosen = h("section");
  const runs = h("section");
  root.append(h("h1", null, "Dead letters"), groups, chosen, runs);
  const state = { session, groups, chosen, runs, filter: null, ended: false, timer: null, wait: null };
  const again = () => { readGroups(state, again); readRuns(state, again); if (state.filter) readLetters(state, again); };
  state.again = again;
  state.filter = { reason: query.get("reason"), label: query.get("reason") ?? "All that wait" };
  again();
  return () => { state.ended = true; clearTimeout(state.timer); };
}

function readGroups(state, again) {
  get("api/console/dead-letters").then(({ items }) => {
    const headings = [{ title: "Reason" }, { title: "Failed" }, { title: "Letters", numeric: true }, { title: "What went wrong" }, { title: "" }];
    state.chosen.hidden = !items.length && state.filter.label === "All that wait";
    fill(state.groups, items.length
      ? table(headings, items.map((one) => {
        const filter = { reason: one.reason, failedAfter: one.oldest, failedBefore: one.before, label: `${one.reason}, ${AGES[one.age]}` };
        return row(headings, [
          h("strong", null, one.reason),
          h("div", null, AGES[one.age], h("small", null, ago(one.newest) === ago(one.oldest) ? ago(one.oldest) : `newest ${ago(one.newest)}, oldest ${ago(one.oldest)}`)),
          count(one.letters),
          h("div", null, one.error, h("small", null, [
            one.errors > 1 ? `and ${plural(one.errors - 1, "other text", "other texts")}` : null,
            one.conversations ? `in ${plural(one.conversations, "conversation", "conversations")}` : null,
            one.redrives ? `redriven up to ${one.redrives} times already` : null].filter(Boolean).join("; "))),
          h("div", { class: "actions" },
            button("Show", () => { state.filter = filter; readLetters(state, again, true); }),
            acts(state, `all of ${filter.label}`, { filter: bare(filter) })),
        ]);
      }))
      : empty("No dead letters wait", "Every record could be persisted, or was dealt with. What was done about earlier ones stands under Actions."));
  }, (error) => fill(state.groups, h("p", { class: "problem" }, error.message)));
}

const bare = ({ reason, failedAfter, failedBefore }) => Object.fromEntries(Object.entries({ reason, failedAfter, failedBefore }).filter(([, value]) => value));

function acts(state, label, selection) {
  if (!state.session.mayAct) return null;
  return [button("Redrive …", () => redrive(state, label, selection)), button("Discard …", () => discard(state, label, selection), { class: "quiet-danger" })];
}

function redrive(state, label, selection) {
  const rate = h("input", { type: "number", min: 0, max: 1000000, value: 100 });
  ask({
    title: `Redrive ${label}`, verb: "Redrive",
    fields: [{ name: "rate", label: "Letters a second", input: rate, hint: "0 is as fast as the log takes them. It can be cancelled at any moment." }],
    preview: async () => {
      const { letters, byReason, redrivenTooOften } = await post("api/dead-letters/redrive", { ...selection, dryRun: true });
      const parts = Object.entries(byReason).map(([reason, number]) => `${number} ${reason}`).join(", ");
      return {
        nothing: letters === 0,
        text: [h("p", null, h("strong", null, plural(letters, "letter", "letters")), ` will be appended to the primary log again${parts ? ` (${parts})` : ""}. A message can't be doubled by it: its key decides.`),
          redrivenTooOften ? h("p", { class: "muted" }, `${redrivenTooOften} were redriven three times or more already and are left out.`) : null],
      };
    },
    act: ({ why, rate: perSecond }) => post("api/dead-letters/redrive", { ...selection, why, ratePerSecond: Number(perSecond) || 0 }),
  }).then((begun) => { if (begun) state.again(); });
}

function discard(state, label, selection) {
  ask({
    title: `Discard ${label}`, verb: "Discard for good", danger: true,
    preview: async () => {
      const { discarded } = await post("api/dead-letters/discard", { ...selection, why: "preview", dryRun: true });
      return { nothing: discarded === 0, text: h("p", null, h("strong", null, plural(discarded, "letter", "letters")), " will be given up for good. They stay on record as discarded, and can't be redriven.") };
    },
    act: ({ why }) => post("api/dead-letters/discard", { ...selection, why }),
  }).then((done) => { if (done) state.again(); });
}

function readLetters(state, again, move) {
  const { label, ...filter } = state.filter;
  get("api/dead-letters", { ...filter, limit: 100 }).then((page) => {
    const headings = [{ title: "" }, { title: "Failed" }, { title: "Kind" }, { title: "Message" }, { title: "Conversation" }, { title: "Stood at" }, { title: "Error" }];
    const marked = new Set();
    const bar = h("div", { class: "actions", role: "status" });
    const retell = () => fill(bar, marked.size ? [`${plural(marked.size, "letter", "letters")} chosen`, acts(state, plural(marked.size, "chosen letter", "chosen letters"), { ids: [...marked] })] : null);
    const boxes = page.items.map((one) => h("input", { type: "checkbox", "aria-label": `Choose dead letter ${one.id}`,
      onchange: (event) => { event.target.checked ? marked.add(one.id) : marked.delete(one.id); retell(); } }));
    const title = h("h2", { tabindex: -1 }, label);
    fill(state.chosen, h("div", { class: "head" }, title,
      state.session.mayAct && page.items.length ? button("Choose all shown", () => { boxes.forEach((box, index) => { box.checked = true; marked.add(page.items[index].id); }); retell(); }) : null, bar),
    page.items.length ? table(headings, page.items.map((one, index) => row(headings, [
      state.session.mayAct ? boxes[index] : "",
      h("a", { href: `#/dead-letter/${one.id}` }, clock(one.failedAt)),
      one.kind, one.messageId ? h("a", { href: `#/message/${one.messageId}` }, copyable(one.messageId)) : "none that can be read",
      one.conversationId ?? "", mixed`${one.transport} ${one.partition}:${one.offset}`, one.error,
    ]))) : empty("None of these wait any more", "They were redriven or discarded meanwhile."),
    page.hasMore ? h("p", { class: "muted" }, "There are more; these are the latest hundred. The group's own buttons take all of them.") : null);
    if (move) { title.focus(); title.scrollIntoView({ block: "nearest" }); }
  }, (error) => fill(state.chosen, h("p", { class: "problem" }, error.message)));
}

// Redrives and how far they are; while one runs, looked at twice a second.
function readRuns(state, again) {
  clearTimeout(state.timer);
  get("api/dead-letters/redrives").then(({ items }) => {
    if (state.ended) return;
    const busy = items.some((one) => one.state === "running" && !one.stalled);
    if (items.length) show(state, items);
    else fill(state.runs);
    if (busy) { state.wait = true; state.timer = setTimeout(() => readRuns(state, again), 500); }
    else if (state.wait) { state.wait = null; setTimeout(() => { if (!state.ended) { readGroups(state, again); if (state.filter) readLetters(state, again); } }, 300); }
  }, (error) => { if (!state.ended) fill(state.runs, h("p", { class: "problem" }, error.message)); });
}

function show(state, items) {
  const key = JSON.stringify(items.map((one) => [one.id, one.state, one.stalled, one.resumable]));
  if (state.runsKey !== key) {
    state.runsKey = key;
    fill(state.runs, h("h2", null, "Redrives"), h("ul", { class: "runs" }, items.map((one) => h("li", null,
      h("div", { class: "head" }, h("strong", null, one.stalled ? "stalled" : one.state),
        h("span", { class: "muted" }, mixed`${clock(one.startedAt)} by ${one.startedBy}${one.rate ? `, ${one.rate} a second` : ""}`),
        state.session.mayAct && (one.state === "running" || one.resumable) ? button("Cancel …", () => steer(state, one, "cancel")) : null,
        state.session.mayAct && one.resumable ? button("Resume …", () => steer(state, one, "resume")) : null),
      h("progress", { max: Math.max(1, one.total), value: one.redriven, "aria-label": `Redrive ${one.id}` }),
      h("small", { class: "far" }), one.error ? h("small", { class: "problem" }, one.error) : null))));
  }
  items.forEach((one, index) => {
    const line = state.runs.querySelectorAll("li")[index];
    line.querySelector("progress").value = one.redriven;
    say(line.querySelector(".far"), `${count(one.redriven)} of ${count(one.total)}${one.failed ? `, ${count(one.failed)} could not be appended and wait on` : ""}`);
  });
}

function steer(state, one, verb) {
  ask({
    title: verb === "cancel" ? "Cancel the redrive" : "Resume the redrive", verb: verb === "cancel" ? "Cancel it" : "Resume it", danger: verb === "cancel",
    act: ({ why }) => post(`api/dead-letters/redrives/${one.id}/${verb}?why=${encodeURIComponent(why)}`),
  }).then((done) => { if (done) { state.runsKey = ""; state.again(); } });
}

export function letterPage(root, { id, session }) {
  const body = h("div", { class: "stack" }, h("p", { class: "muted" }, "Reading …"));
  root.append(h("h1", null, `Dead letter ${id}`), body);
  const read = () => get(`api/dead-letters/${id}`).then((one) => {
    const facts = [
      ["State", h("span", { class: `state ${one.state}` }, one.state)],
      ["Reason", one.reason], ["Error", one.error], ["Attempts", one.attempts], ["Redriven before", one.redrives],
      ["Failed", clock(one.failedAt)], ["Kind", one.kind],
      ["Message", one.messageId && h("a", { href: `#/message/${one.messageId}` }, copyable(one.messageId))],
      ["Conversation", one.conversationId], ["Stood at", mixed`${one.transport} ${one.topic}, partition ${one.partition}, ${one.offset}`], ["Key", one.key],
      ["Settled", one.settledAt && mixed`${clock(one.settledAt)} by ${one.settledBy}: ${one.settledWhy}`],
    ];
    const state = { session, again: read };
    fill(body,
      one.state === "pending" ? h("div", { class: "actions" }, acts(state, `dead letter ${one.id}`, { ids: [one.id] })) : null,
      h("dl", { class: "facts" }, facts.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
      h("h2", null, "Headers"), one.headers.length ? h("dl", { class: "facts" }, one.headers.map((header) => h("div", null, h("dt", null, header.name), h("dd", null, header.value)))) : h("p", { class: "muted" }, "None."),
      h("h2", null, "Body ", h("small", null, `${count(one.size)} bytes${one.body === null ? ", not UTF-8: shown in base64" : ""}`)),
      h("pre", { class: "content", tabindex: 0 }, one.body ?? one.bodyBase64));
  }, (error) => fill(body, error.status === 404 ? empty("There is no such dead letter") : h("p", { class: "problem" }, error.message)));
  read();
}
