// What can be done about dead letters: back into the log, or given up; each with a reason.

import { post } from "./api.js";
import { newId } from "./bytes.js";
import { ask } from "./dialog.js";
import { button, h } from "./dom.js";
import { count, plural } from "./format.js";

// Letters that are discarded by one request, so that it is short and the rest can be left.
const AT_ONCE = 5000;

// Buttons for a selection; `again` is called when something was done.
export function letterActions(session, label, selection, again) {
  if (!session.mayAct) return null;
  return [
    button("Redrive …", () =>
      redrive(label, selection).then((begun) => {
        if (begun) again();
      }),
    ),
    button(
      "Discard …",
      () =>
        discard(label, selection).then((done) => {
          if (done) again();
        }),
      { class: "quiet-danger" },
    ),
  ];
}

function redrive(label, selection) {
  const rate = h("input", { type: "number", min: 0, max: 1000000, value: 100 });
  // Browsers send a request again by themselves if the connection ends before an answer.
  const redriveId = newId();
  return ask({
    title: `Redrive ${label}`,
    verb: "Redrive",
    fields: [
      {
        name: "rate",
        label: "Letters a second",
        input: rate,
        hint: "0 is as fast as the log takes them. It can be cancelled at any moment.",
      },
    ],
    preview: async () => {
      const found = await post("api/dead-letters/redrive", { ...selection, dryRun: true });
      const parts = Object.entries(found.byReason)
        .map(([reason, number]) => `${number} ${reason}`)
        .join(", ");
      return {
        nothing: found.letters === 0,
        text: [
          h(
            "p",
            null,
            h("strong", null, plural(found.letters, "letter", "letters")),
            ` will be appended to the primary log again${parts ? ` (${parts})` : ""}. ` +
              "This can't double a message: its key decides.",
          ),
          found.redrivenTooOften
            ? h(
                "p",
                { class: "muted" },
                `${found.redrivenTooOften} were redriven three times or more already and are left out.`,
              )
            : null,
        ],
      };
    },
    act: ({ why, rate: perSecond }) =>
      post("api/dead-letters/redrive", {
        ...selection,
        why,
        ratePerSecond: Number(perSecond) || 0,
        redriveId,
      }),
  });
}

function discard(label, selection) {
  let total = 0,
    upTo = 0;
  return ask({
    title: `Discard ${label}`,
    verb: "Discard for good",
    danger: true,
    preview: async () => {
      const found = await post("api/dead-letters/discard", { ...selection, why: "preview", dryRun: true });
      total = found.discarded;
      upTo = found.upTo;
      return {
        nothing: total === 0,
        text: h(
          "p",
          null,
          h("strong", null, plural(total, "letter", "letters")),
          " will be given up for good. They stay on record as discarded, and can't be redriven.",
        ),
      };
    },
    act: async ({ why }, progress) => {
      let done = 0,
        last = AT_ONCE;
      while (last === AT_ONCE && progress.wanted()) {
        // Others may have come since they were counted, and browsers send a request again by
        // themselves if the connection ends before an answer.
        const part = { ...selection, why, most: AT_ONCE, upTo };
        last = (await post("api/dead-letters/discard", part)).discarded;
        done += last;
        progress.tell(done, total, `${count(done)} of ${count(total)} discarded; leaving stops here.`);
      }
    },
  });
}
