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
  parts.push(
    showGroups(groups, { session, again }),
    showLetters(letters, { session, filter, again }),
    showRuns(runs, {
      session,
      over: () => {
        parts[0].read();
        parts[1].read();
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
