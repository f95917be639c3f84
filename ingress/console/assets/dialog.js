// Every action asks for a reason first, shows what it would do, and can be left with Escape.

import { button, fill, h } from "./dom.js";

const LONGEST_REASON = 1000;

const REACHED = "a[href], button:not(:disabled), input, select, textarea, [tabindex='0']";

// Show a dialog above everything else. The focus stays in it, and goes back when it is closed.
export function modal(dialog) {
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "Tab") return;
    const all = [...dialog.querySelectorAll(REACHED)];
    const [from, to] = event.shiftKey ? [all.at(0), all.at(-1)] : [all.at(-1), all.at(0)];
    if (document.activeElement === from || !all.includes(document.activeElement)) {
      event.preventDefault();
      to.focus();
    }
  });
  show(dialog);
}

function show(dialog) {
  document.body.append(dialog);
  dialog.showModal();
}

// A box for a reason, which has to say something.
export function reasonBox(properties) {
  const box = h("textarea", { rows: 2, required: true, maxlength: LONGEST_REASON, ...properties });
  box.addEventListener("input", () => box.setCustomValidity(""));
  return box;
}

// Whether every reason says something; the first that does not is shown.
function said(boxes) {
  const blank = boxes.find((box) => !box.value.trim());
  if (!blank) return true;
  blank.setCustomValidity("Say why.");
  blank.reportValidity();
  return false;
}

// Ask, with fields of the caller's, and do `act({why, ...}, progress)`. Resolves to what it returned,
// or to null where it was left before it began. One that is left while it acts comes back with an error.
export function ask({ title, preview, fields = [], verb, reason = "Reason", danger = false, act }) {
  return new Promise((resolve) => {
    const why = reasonBox({ id: "why", name: "why", placeholder: "Kept on record with your key's name" });
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const shown = h("div", { class: "preview", "aria-live": "polite" });
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, verb);
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      shown,
      fields.map((field, index) =>
        h(
          "div",
          { class: "field" },
          h("label", { for: `field-${index}` }, field.label),
          field.hint ? h("small", { id: `hint-${index}` }, field.hint) : null,
          prepared(field, index),
        ),
      ),
      h("div", { class: "field" }, h("label", { for: "why" }, reason), why),
      problem,
      h(
        "div",
        { class: "actions" },
        button("Leave", () => dialog.close()),
        go,
      ),
    );
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    const reasons = [...form.querySelectorAll("textarea")];
    let result = null,
      acting = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!said(reasons)) return;
      go.disabled = true;
      problem.hidden = true;
      const given = Object.fromEntries(fields.map((field) => [field.name, field.input.value.trim()]));
      acting = true;
      try {
        result = (await act({ ...given, why: why.value.trim() }, progress)) ?? true;
        acting = false;
        if (dialog.open) dialog.close();
        else resolve(result);
      } catch (error) {
        acting = false;
        if (!dialog.open) show(dialog);
        fill(problem, error.message, error.status === 0 ? " It may have been done: Actions tells." : null);
        problem.hidden = false;
        // What was shown before may be done in part.
        if (preview) look();
        else go.disabled = false;
      }
    });
    // How far a long action is. One that is left ends after the part in hand.
    const progress = {
      wanted: () => dialog.open,
      tell: (done, total, text) =>
        fill(
          shown,
          h("progress", { max: Math.max(1, total), value: done, "aria-label": title }),
          h("p", null, text),
        ),
    };
    dialog.addEventListener("close", () => {
      if (dialog.open) return; // it came back already
      dialog.remove();
      if (!acting) resolve(result);
    });
    modal(dialog);
    (fields.find((field) => field.input.required)?.input ?? why).focus();
    function look() {
      fill(shown, h("p", { class: "muted" }, "Counting …"));
      go.disabled = true;
      preview().then(
        ({ text, nothing }) => {
          fill(shown, text);
          go.disabled = Boolean(nothing);
        },
        (error) => fill(shown, h("p", { class: "problem" }, error.message), button("Count again", look)),
      );
    }
    if (preview) look();
  });
}

function prepared({ input, hint }, index) {
  input.id = `field-${index}`;
  if (hint) input.setAttribute("aria-describedby", `hint-${index}`);
  return input;
}
