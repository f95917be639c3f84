// One step of the migration: its gates judged, and taken with a reason for each that is not green.

import { get, post } from "./api.js";
import { ask, reasonBox } from "./dialog.js";
import { button, fill, h } from "./dom.js";
import { clock } from "./format.js";

const MARKS = { green: "✓ green", red: "✕ red", unknown: "? unknown" };
const passable = (step) => step.gates.every((gate) => gate.verdict === "green" || gate.overridable);
const worst = (step) => (step.gates.some((gate) => gate.verdict === "red") ? "red" : "unknown");

export function phaseSettings(phase) {
  return h(
    "pre",
    { class: "content small" },
    Object.entries(phase.settings)
      .map(([name, value]) => (value ? `${name}=${value}` : `# unset ${name}`))
      .join("\n"),
  );
}

// A card for the step in one direction. `phases` returns the phases; `taken` is called after a step.
export class StepCard {
  #ended = false;

  constructor({ direction, session, phases, taken }) {
    this.direction = direction;
    this.forward = direction === "forward";
    this.title = this.forward ? "Next step" : "Step back";
    this.session = session;
    this.phases = phases;
    this.taken = taken;
    this.element = h("section", { class: "card", "aria-label": this.title });
  }

  end() {
    this.#ended = true;
  }

  judge() {
    this.#fill(h("p", { class: "muted" }, "Judging the gates; comparing the logs takes some seconds …"));
    return get("api/console/migration/gates", { direction: this.direction }).then(
      (step) => {
        if (!this.#ended) this.#show(step);
      },
      (error) => {
        if (this.#ended) return;
        this.#fill(
          h("p", { class: "problem" }, error.message),
          button("Judge again", () => this.judge()),
        );
      },
    );
  }

  #fill(...children) {
    fill(this.element, h("h2", null, this.title), ...children);
  }

  #name(number) {
    return `${number} ${this.phases()[number].name}`;
  }

  #show(step) {
    if (step.refusal) {
      this.#fill(h("p", { class: "muted" }, step.refusal));
      return;
    }
    const verb = this.forward ? "Advance" : "Roll back";
    fill(
      this.element,
      h(
        "div",
        { class: "head" },
        h("h2", null, `${verb}: ${this.#name(step.origin)} → ${this.#name(step.to)}`),
        h(
          "span",
          { class: `state ${step.ready ? "green" : worst(step)}` },
          step.ready ? "ready" : "not ready",
        ),
      ),
      step.note ? h("p", { class: "muted" }, step.note) : null,
      h(
        "ul",
        { class: "gates" },
        step.gates.map((gate) =>
          h(
            "li",
            null,
            h("span", { class: `state ${gate.verdict}` }, MARKS[gate.verdict]),
            h("strong", null, gate.name),
            h("span", null, gate.reason),
          ),
        ),
      ),
      h(
        "div",
        { class: "actions" },
        this.session.mayAct
          ? button(`${verb} …`, () => this.#take(step, verb), {
              class: step.ready && this.forward ? "primary" : null,
              disabled: !passable(step),
            })
          : null,
        button("Judge again", () => this.judge()),
        h("small", null, `judged ${clock(step.judgedAt)}`),
      ),
    );
  }

  #take(step, verb) {
    const phase = this.phases()[step.to];
    const passed = step.gates.filter((gate) => gate.verdict !== "green");
    const one = passed.length === 1;
    ask({
      title: `From phase ${step.origin} to ${step.to} ${phase.name}`,
      verb,
      danger: passed.length > 0,
      reason: passed.length ? "Reason for the step" : "Reason",
      preview: async () => ({
        text: [
          h("p", null, phase.what),
          h("p", { class: "muted" }, "Then every process is to be restarted with:"),
          phaseSettings(phase),
          passed.length
            ? h(
                "p",
                { class: "problem" },
                `${one ? "One gate is" : `${passed.length} gates are`} not green: ` +
                  `say of ${one ? "it" : "each"} why the step is taken all the same. The gates are judged again first; ` +
                  "one that has turned red meanwhile stops the step.",
              )
            : null,
        ],
      }),
      fields: passed.map((gate) => ({
        name: `gate ${gate.name}`,
        label: `Why go on although ${gate.name} is ${gate.verdict}`,
        hint: gate.reason,
        input: reasonBox({ placeholder: "Kept on record for this gate" }),
      })),
      act: (given) =>
        post("api/console/migration/steps", {
          direction: step.direction,
          epoch: step.epoch,
          why: given.why,
          acceptUnknown: reasons(passed, given, "unknown"),
          overrule: reasons(passed, given, "red"),
        }).catch((error) => {
          this.judge();
          throw error;
        }),
    }).then((done) => {
      if (done) this.taken();
    });
  }
}

function reasons(gates, given, verdict) {
  return Object.fromEntries(
    gates.filter((gate) => gate.verdict === verdict).map((gate) => [gate.name, given[`gate ${gate.name}`]]),
  );
}
