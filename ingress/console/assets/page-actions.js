// What people did by hand.

import { get } from "./api.js";
import { button, empty, fill, h, row, table } from "./dom.js";
import { clock } from "./format.js";

const HEADINGS = [
  { title: "When" },
  { title: "Who" },
  { title: "What" },
  { title: "To what" },
  { title: "Why" },
  { title: "Result" },
];

export function actionsPage(root) {
  const list = h("div");
  root.append(
    h("h1", null, "Actions"),
    h(
      "p",
      { class: "muted" },
      "Everything that was done by hand, through this console, the API or the terminal; newest first. " +
        "Nothing here is ever changed.",
    ),
    list,
  );
  let rows = [];
  const read = (after) =>
    get("api/console/actions", { after }).then(
      (page) => {
        rows = rows.concat(
          page.items.map((one) =>
            row(HEADINGS, [
              clock(one.at),
              one.who,
              h("strong", null, one.action),
              one.target,
              one.why,
              one.result ?? "under way, or cut off",
            ]),
          ),
        );
        fill(
          list,
          rows.length
            ? table(HEADINGS, rows)
            : empty(
                "Nothing was done by hand yet",
                "Redrives, discards and changes of phase will stand here, each with its reason.",
              ),
          page.next ? button("Show more", () => read(page.next)) : null,
        );
      },
      (error) => fill(list, h("p", { class: "problem" }, error.message)),
    );
  read();
}
