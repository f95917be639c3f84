// A line of the last minutes, as small as a word. Gaps are where nothing was known.

import { svg } from "./dom.js";

const WIDTH = 180, HEIGHT = 34;

// `floor` is the least that fills the height: noise near nothing must not look like mountains.
export function sparkline(label, floor = 1) {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const element = svg("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
    role: "img", "aria-label": label,
  }, area, line);
  return {
    element,
    update(values) {
      const known = values.filter((value) => value !== null);
      const top = Math.max(floor, ...known) * 1.08;
      const step = WIDTH / 179;
      const start = WIDTH - (values.length - 1) * step;
      const y = (value) => (HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1);
      let path = "", filled = "", open = false, x = start, last = start;
      for (const value of values) {
        if (value === null) {
          if (open) filled += `L${last.toFixed(1)} ${HEIGHT}Z`;
          open = false;
        } else {
          path += `${open ? "L" : "M"}${x.toFixed(1)} ${y(value)}`;
          filled += open ? `L${x.toFixed(1)} ${y(value)}` : `M${x.toFixed(1)} ${HEIGHT}L${x.toFixed(1)} ${y(value)}`;
          open = true;
          last = x;
        }
        x += step;
      }
      if (open) filled += `L${last.toFixed(1)} ${HEIGHT}Z`;
      line.setAttribute("d", path);
      area.setAttribute("d", filled);
    },
  };
}
