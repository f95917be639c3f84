// Redrives and how far they are; while one runs, looked at twice a second.

import { get, post } from "./api.js";
import { ask } from "./dialog.js";
import { button, fill, h, mixed, say } from "./dom.js";
import { clock, count } from "./format.js";

const AGAIN = 2000; // milliseconds after an error

export function showRuns(root, { session, over }) {
  let shown = "",
    timer = null,
    asked = 0,
    ended = false,
    waiting = false;

  function read() {
    clearTimeout(timer);
    asked += 1;
    const mine = asked;
    const isOld = () => ended || mine !== asked;
    return get("api/dead-letters/redrives").then(
      ({ items }) => {
        if (isOld()) return;
        show(items);
        if (items.some((one) => one.state === "running" && !one.stalled)) {
          waiting = true;
          timer = setTimeout(read, 500);
        } else if (waiting) {
          waiting = false;
          over();
        }
      },
      (error) => {
        if (isOld()) return;
        shown = "";
        fill(root, h("p", { class: "problem" }, error.message, " It is asked again."));
        timer = setTimeout(read, AGAIN);
      },
    );
  }

  function show(items) {
    const key = JSON.stringify(items.map((one) => [one.id, one.state, one.stalled, one.resumable]));
    if (shown !== key) {
      shown = key;
      fill(
        root,
        items.length ? [h("h2", null, "Redrives"), h("ul", { class: "runs" }, items.map(run))] : null,
      );
    }
    const lines = root.querySelectorAll("li");
    items.forEach((one, index) => {
      lines[index].querySelector("progress").value = one.redriven;
      say(
        lines[index].querySelector(".far"),
        `${count(one.redriven)} of ${count(one.total)}${
          one.failed ? `, ${count(one.failed)} could not be appended and wait on` : ""
        }`,
      );
    });
  }

  function run(one) {
    const may = session.mayAct;
    return h(
      "li",
      null,
      h(
        "div",
        { class: "head" },
        h("strong", null, one.stalled ? "stalled" : one.state),
        h(
          "span",
          { class: "muted" },
          mixed`${clock(one.startedAt)} by ${one.startedBy}${one.rate ? `, ${one.rate} a second` : ""}`,
        ),
        may && (one.state === "running" || one.resumable)
          ? button("Cancel …", () => steer(one, "cancel"))
          : null,
        may && one.resumable ? button("Resume …", () => steer(one, "resume")) : null,
      ),
      h("progress", { max: Math.max(1, one.total), value: one.redriven, "aria-label": `Redrive ${one.id}` }),
      h("small", { class: "far" }),
      one.error ? h("small", { class: "problem" }, one.error) : null,
    );
  }

  function steer(one, verb) {
    const cancel = verb === "cancel";
    ask({
      title: cancel ? "Cancel the redrive" : "Resume the redrive",
      verb: cancel ? "Cancel it" : "Resume it",
      danger: cancel,
      act: ({ why }) => post(`api/dead-letters/redrives/${one.id}/${verb}?why=${encodeURIComponent(why)}`),
    }).then((done) => {
      if (done) {
        shown = "";
        over();
        read();
      }
    });
  }

  read();
  return {
    read,
    end: () => {
      ended = true;
      clearTimeout(timer);
    },
  };
}
