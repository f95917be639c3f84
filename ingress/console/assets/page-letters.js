// Dead letters: by cause, one by one, back into the log, or given up.

import { h } from "./dom.js";
import { showGroups } from "./letter-groups.js";
import { showLetters } from "./letter-list.js";
import { showRuns } from "./letter-runs.js";

const FILTERS = ["reason", "cause", "conversation", "text"];

export function lettersPage(root, { session, query }) {
  const groups = h("section", { "aria-label": "By cause" });
  const letters = h("section", { "aria-label": "Letters" });
  const runs = h("section", { "aria-label": "Redrives" });
  root.append(h("h1", null, "Dead letters"), groups, letters, runs);
  const filter = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const filtered = Object.values(filter).some(Boolean);
  const parts = [];
  const again = () => {
    for (const part of parts) part.read();
  };
  const lists = [showLetters(letters, { session, filter, again })];
  // Causes are of errors, which may quote messages.
  if (session.mayRead) lists.push(showGroups(groups, { session, again }));
  parts.push(
    ...lists,
    showRuns(runs, {
      session,
      over: () => {
        for (const list of lists) list.read();
      },
    }),
  );
  // Whoever asked for some of them is led to these.
  if (filtered) {
    const title = letters.querySelector("h2");
    title.focus();
    title.scrollIntoView({ block: "nearest" });
  }
  return () => {
    for (const part of parts) part.end();
  };
}
