// Every action asks for a reason first, shows what it would do, and can be left with Escape.

import { button, fill, h } from "./dom.js";

// Ask, with fields of the caller's, and do `act({why, ...})`. Resolves to what it returned, or to
// null where it was left.
export function ask({ title, preview, fields = [], verb, danger = false, act }) {
  return new Promise((resolve) => {
    const why = h("textarea", { id: "why", name: "why", rows: 2, required: true, maxlength: 1000,
      placeholder: "Kept on record with your key's name" });
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const shown = h("div", { class: "preview", "aria-live": "polite" });
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, verb);
    const form = h("form", { method: "dialog" },
      h("h2", { id: "dialog-title" }, title), shown,
      fields.map((field) => h("label", null, field.label, field.input,
        field.hint ? h("small", null, field.hint) : null)),
      h("label", { for: "why" }, "Reason", why), problem,
      h("div", { class: "actions" }, button("Leave", () => dialog.close()), go));
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    let result = null;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!why.value.trim()) {
        why.setCustomValidity("Say why.");
        why.reportValidity();
        return;
      }
      go.disabled = true;
      problem.hidden = true;
      const given = Object.fromEntries(fields.map((field) => [field.name, field.input.value]));
      try {
        result = (await act({ ...given, why: why.value.trim() })) ?? true;
        dialog.close();
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
        go.disabled = false;
      }
    });
    why.addEventListener("input", () => why.setCustomValidity(""));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(result); });
    document.body.append(dialog);
    dialog.showModal();
    why.focus();
    if (preview) {
      fill(shown, h("p", { class: "muted" }, "Counting …"));
      go.disabled = true;
      preview().then(
        ({ text, nothing }) => { fill(shown, text); go.disabled = Boolean(nothing); },
        (error) => fill(shown, h("p", { class: "problem" }, error.message)));
    }
  });
}
