// How everything is now: sentences, figures, a heat strip for each log, the processes.

import { sparkline } from "./chart.js";
import { empty, fill, h, mixed, row, say, table } from "./dom.js";
import { ago, bound, count, plural, rate, short, span } from "./format.js";
import { hourPart } from "./hour.js";
import { visible } from "./visible.js";

const MARKS = { ok: "✓", notice: "i", warning: "!", alarm: "✕" };
const WORDS = { ok: "All well", notice: "Notice", warning: "Warning", alarm: "Alarm" };
const ROLES = { primary: "written first", consumed: "read by workers", shadow: "shadow" };

export function nowPage(root, { live }) {
  const health = h("ul", { class: "health" });
  const figures = figuresPart();
  const hour = hourPart();
  const logs = h("div", { class: "logs" });
  const processes = h("div");
  root.append(
    h("section", { "aria-labelledby": "health-title" }, h("h1", { id: "health-title" }, "Now"), health),
    figures.element,
    hour.element,
    logs,
    h(
      "section",
      { "aria-labelledby": "processes-title" },
      h("h2", { id: "processes-title" }, "Processes"),
      processes,
    ),
  );
  const parts = new Map();
  let saidHealth = "",
    saidProcesses = "";
  const unlisten = live.listen((status) => {
    const now = JSON.stringify(status.health.map((one) => [one.level, one.page, one.next !== null]));
    if (now !== saidHealth) {
      saidHealth = now;
      fill(health, status.health.map(sentence));
    }
    status.health.forEach((one, index) => {
      say(health.children[index].querySelector(".text"), one.text);
      const next = health.children[index].querySelector(".next");
      if (next) say(next, one.next);
    });
    figures.update(status, live.history);
    for (const [name, part] of parts)
      if (!status.logs.some((log) => log.name === name)) {
        part.element.remove();
        parts.delete(name);
      }
    for (const log of status.logs) {
      if (parts.get(log.name)?.size !== log.partitions.length) {
        parts.get(log.name)?.element.remove();
        parts.set(log.name, logPart(log));
        logs.append(parts.get(log.name).element);
      }
      parts.get(log.name).update(log, status.database.up);
    }
    const there = JSON.stringify(status.processes?.map((one) => ({ ...one, silentSeconds: 0 })) ?? null);
    if (there !== saidProcesses) {
      saidProcesses = there;
      fill(processes, processTable(status.processes));
    }
    for (const [index, cell] of processes.querySelectorAll("[data-heard]").entries())
      say(cell, `${span(status.processes[index].silentSeconds)} ago`);
  });
  return () => {
    unlisten();
    hour.leave();
  };
}

function sentence(one) {
  return h(
    "li",
    { class: `sentence ${one.level}` },
    h("span", { class: "mark", "aria-hidden": "true" }, MARKS[one.level]),
    h(
      "div",
      null,
      h(
        "p",
        { class: "what" },
        h("span", { class: "hidden-text" }, `${WORDS[one.level]}: `),
        h("span", { class: "text" }, one.text),
      ),
      one.next ? h("p", { class: "next" }, one.next) : null,
      one.page === "dead-letters" ? h("p", null, h("a", { href: "#/dead-letters" }, "Dead letters")) : null,
      one.page === "migration" ? h("p", null, h("a", { href: "#/migration" }, "Migration")) : null,
    ),
  );
}

function figuresPart() {
  const names = {
    inRate: ["Accepted", "a second"],
    outRate: ["Persisted", "a second"],
    lag: ["Waiting", "for a worker"],
    oldest: ["Longest wait", "of those that wait now"],
    ack: ["POST answered", "99 of 100 within; half within"],
    persist: ["Row written", "after acceptance; 99 of 100, half"],
  };
  const parts = {};
  const element = h(
    "section",
    { class: "figures", "aria-label": "Figures" },
    Object.entries(names).map(([name, [title, note]]) => {
      const value = h("strong", null, "–");
      const small = h("small", null, note);
      const drawn = ["inRate", "outRate", "lag", "oldest"].includes(name);
      const spark = drawn ? sparkline(`${title}, the last minutes`) : null;
      parts[name] = { value, small, spark };
      return h(
        "div",
        { class: "figure" },
        h("span", { class: "title" }, title),
        value,
        small,
        spark?.element,
      );
    }),
  );
  return {
    element,
    update(status, history) {
      const primary = status.logs.find((log) => log.roles.includes("primary"));
      const read = status.logs.find((log) => log.roles.includes("consumed"));
      say(parts.inRate.value, rate(primary?.inRate));
      say(parts.outRate.value, rate(read?.outRate));
      say(parts.lag.value, count(read?.lag));
      const ages = read?.partitions.map((one) => one.oldestAge) ?? [null];
      say(parts.oldest.value, ages.includes(null) ? "unknown" : span(Math.max(0, ...ages)));
      for (const name of ["ack", "persist"]) {
        const figure = status[name];
        say(parts[name].value, figure ? bound(figure.p99) : "unknown");
        say(
          parts[name].small,
          figure?.p50 != null
            ? `99 of 100; half ${bound(figure.p50)}`
            : figure
              ? "nothing in the last 10 s"
              : "PostgreSQL does not answer",
        );
      }
      for (const name of ["inRate", "outRate", "lag", "oldest"])
        parts[name].spark.update(history.map((point) => point[name]));
    },
  };
}

// One cell for each partition; arrow keys move between them, the chosen one is told in words.
function logPart(log) {
  const title = h("h2", null, log.name);
  const roles = h("span", { class: "chips" });
  const sums = h("p", { class: "sums" });
  const problem = h("p", { class: "problem", hidden: true });
  const strip = h("div", {
    class: "strip",
    role: "listbox",
    "aria-label": `Partitions of ${log.name}`,
    "aria-orientation": "horizontal",
  });
  const detail = h("div", { class: "detail", role: "status" });
  const headings = [
    { title: "Partition", numeric: true },
    { title: "Waiting", numeric: true },
    { title: "Oldest", numeric: true },
    { title: "In /s", numeric: true },
    { title: "Out /s", numeric: true },
    { title: "Owner" },
  ];
  const cells = log.partitions.map((one, index) => {
    // What is seen at a glance is told in words to those who listen.
    const number = h("span", { class: "number", "aria-hidden": "true" }, one.partition);
    const lag = h("span", { class: "lag", "aria-hidden": "true" });
    const wait = h("span", { class: "wait", "aria-hidden": "true" });
    const told = h("span", { class: "hidden-text" });
    const cell = h(
      "div",
      {
        class: "cell",
        role: "option",
        tabindex: index ? -1 : 0,
        "aria-selected": "false",
        onclick: () => choose(index),
        onkeydown: (event) => move(event, index),
      },
      number,
      lag,
      wait,
      told,
    );
    return { cell, lag, wait, told };
  });
  strip.style.setProperty("--columns", Math.min(16, log.partitions.length));
  strip.append(...cells.map((one) => one.cell));
  const rows = log.partitions.map((one) => row(headings, [one.partition, "", "", "", "", ""]));
  const details = h(
    "details",
    null,
    h("summary", null, `All partitions of ${log.name} as a table`),
    table(headings, rows),
  );
  const element = h(
    "section",
    { class: "log", "aria-label": `Log ${log.name}` },
    h("div", { class: "head" }, title, roles, sums),
    problem,
    strip,
    detail,
    details,
  );
  let chosen = -1,
    current = log,
    nobody = "nobody";

  function choose(index) {
    if (chosen >= 0) cells[chosen].cell.setAttribute("aria-selected", "false");
    chosen = chosen === index ? -1 : index;
    if (chosen >= 0) cells[chosen].cell.setAttribute("aria-selected", "true");
    tell();
  }
  function move(event, index) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -index, End: cells.length - 1 - index };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(index);
      return;
    }
    if (event.key === "Escape" && chosen >= 0) {
      choose(chosen);
      return;
    }
    if (!(event.key in steps)) return;
    event.preventDefault();
    const to = Math.min(cells.length - 1, Math.max(0, index + steps[event.key]));
    cells[index].cell.tabIndex = -1;
    cells[to].cell.tabIndex = 0;
    cells[to].cell.focus();
  }
  function tell() {
    if (chosen < 0) {
      say(detail, "");
      return;
    }
    say(detail, words(current.partitions[chosen], nobody));
  }
  return {
    element,
    size: log.partitions.length,
    update(now, isDatabaseUp) {
      current = now;
      nobody = isDatabaseUp ? "nobody" : "unknown"; // PostgreSQL has the owners
      if (roles.childElementCount !== now.roles.length)
        fill(
          roles,
          now.roles.map((one) => h("span", { class: "chip" }, ROLES[one])),
        );
      const unread = now.deadLettersUnread;
      say(
        sums,
        now.error
          ? "unknown"
          : `${plural(now.lag, "record waits", "records wait")} · in ${rate(now.inRate)}/s · out ${rate(now.outRate)}/s` +
              (unread ? ` · ${plural(unread, "dead letter", "dead letters")} not listed yet` : ""),
      );
      problem.hidden = !now.error;
      say(problem, now.error ? `It can't be used: ${now.error}. Everything below is unknown.` : "");
      element.classList.toggle("unreachable", Boolean(now.error));
      now.partitions.forEach((one, index) => {
        const { cell, lag, wait, told } = cells[index];
        cell.className = `cell ${heat(one, now, isDatabaseUp)}`;
        say(lag, short(one.lag));
        say(
          wait,
          one.lag === null
            ? "unknown"
            : one.stalledSeconds >= 5
              ? "stuck"
              : one.lag
                ? span(one.oldestAge)
                : one.owner || !isDatabaseUp || !now.roles.includes("consumed")
                  ? ""
                  : "no owner",
        );
        const text = words(one, nobody);
        say(told, text);
        cell.title = text;
        const values = [
          one.partition,
          count(one.lag),
          one.lag === 0 ? "–" : span(one.oldestAge),
          rate(one.inRate),
          rate(one.outRate),
          one.owner ?? nobody,
        ];
        for (const [column, value] of values.entries()) say(rows[index].cells[column], value);
      });
      tell();
    },
  };
}

function heat(one, log, isDatabaseUp) {
  if (one.lag === null) return "unknown";
  const classes = [];
  if (one.lost) classes.push("lost");
  if (one.stalledSeconds >= 5) classes.push("stalled");
  if (!one.owner && isDatabaseUp && log.roles.includes("consumed")) classes.push("free");
  const age = one.lag ? (one.oldestAge ?? 0) : 0;
  classes.push(one.lag === 0 ? "h0" : age < 1 ? "h1" : age < 5 ? "h2" : age < 30 ? "h3" : "h4");
  return classes.join(" ");
}

function words(one, nobody) {
  if (one.lag === null) return `Partition ${one.partition}: unknown`;
  const waits = one.lag
    ? `${plural(one.lag, "record waits", "records wait")}, the oldest for ${span(one.oldestAge)}`
    : "nothing waits";
  const stuck = one.stalledSeconds >= 5 ? `, none persisted for ${span(one.stalledSeconds)}` : "";
  const lost = one.lost ? `, ${one.lost} left the log unread` : "";
  return visible(
    `Partition ${one.partition}: ${waits}${stuck}${lost}; ` +
      `in ${rate(one.inRate)}/s, out ${rate(one.outRate)}/s; owner ${one.owner ?? nobody}`,
  );
}

function processTable(processes) {
  if (processes === null)
    return empty("Unknown", "Processes report through PostgreSQL, which does not answer.");
  if (!processes.length) return empty("No process reports yet", "Each writes its line every two seconds.");
  const headings = [
    { title: "Process" },
    { title: "Runs" },
    { title: "Phase", numeric: true },
    { title: "Owns" },
    { title: "Waits for" },
    { title: "Heard of", numeric: true },
  ];
  return table(
    headings,
    processes.map((one) =>
      row(
        headings,
        [
          h(
            "div",
            null,
            h("strong", null, one.member),
            h(
              "small",
              null,
              mixed`${one.role}, ${one.version}, since ${ago(one.startedAt).replace(" ago", "")}`,
            ),
          ),
          one.settings,
          one.phase ?? "none",
          Object.entries(one.owned)
            .map(([log, owned]) => `${log}: ${ranges(owned)}`)
            .join("; ") || "nothing",
          one.paused.map((paused) =>
            h("div", { class: "problem" }, mixed`${paused.dependency}: ${paused.error}`),
          ),
          h("span", { "data-heard": true }),
        ],
        { class: one.live ? null : "gone" },
      ),
    ),
  );
}

export function ranges(numbers) {
  if (!numbers.length) return "nothing";
  const runs = [];
  for (const number of numbers)
    if (runs.length && number === runs.at(-1)[1] + 1) runs.at(-1)[1] = number;
    else runs.push([number, number]);
  return runs.map(([from, to]) => (from === to ? from : `${from}–${to}`)).join(", ");
}
