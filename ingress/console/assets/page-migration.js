// Where the migration stands, what keeps the next step, and how alike the logs are.

import { get } from "./api.js";
import { empty, fill, h } from "./dom.js";

export function migrationPage(root) {
  const body = h("div");
  root.append(h("h1", null, "Migration"), body);
  fill(body, empty("Nothing yet"));
}
