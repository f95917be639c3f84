// Lines over time. Gaps are where nothing was known. Here: the last minutes, as small as a word.

import { h, say, svg } from "./dom.js";

const WIDTH = 180,
  HEIGHT = 34;

// `floor` is the least that fills the height: noise near nothing must not look like mountains.
export function sparkline(label, floor = 1) {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const element = svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    area,
    line,
  );
  return {
    element,
    update(values) {
      const known = values.filter((value) => value !== null);
      const top = Math.max(floor, ...known) * 1.08;
      const step = WIDTH / 179;
      const start = WIDTH - (values.length - 1) * step;
      const y = (value) => (HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1);
      let path = "",
        filled = "",
        open = false,
        x = start,
        last = start;
      for (const value of values) {
        if (value === null) {
          if (open) filled += `L${last.toFixed(1)} ${HEIGHT}Z`;
          open = false;
        } else {
          path += `${open ? "L" : "M"}${x.toFixed(1)} ${y(value)}`;
          filled += open
            ? `L${x.toFixed(1)} ${y(value)}`
            : `M${x.toFixed(1)} ${HEIGHT}L${x.toFixed(1)} ${y(value)}`;
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

const WIDE = 600,
  HIGH = 140,
  HOUR = 3600 * 1000;

// Lines over the last hour, with their scale and a legend beside them as text. `series`: name, key
// of a point's value; `format` writes a value. A gap is where nothing was known.
export function hourChart({ title, series, format, floor = 1 }) {
  const lines = series.map((_, index) => svg("path", { class: `line l${index}` }));
  const drawing = svg(
    "svg",
    {
      class: "hour",
      viewBox: `0 0 ${WIDE} ${HIGH}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": title,
    },
    lines,
  );
  const top = h("span", { class: "top" }, "");
  const values = series.map(() => h("strong", null, "–"));
  const legend = h(
    "div",
    { class: "legend" },
    series.map(({ name }, index) => h("span", { class: `key l${index}` }, `${name} `, values[index])),
  );
  const element = h(
    "figure",
    { class: "chart" },
    h("figcaption", null, title),
    legend,
    h("div", { class: "plot" }, top, drawing),
    h(
      "div",
      { class: "times", "aria-hidden": "true" },
      h("span", null, "an hour ago"),
      h("span", null, "now"),
    ),
  );
  return {
    element,
    update(points, step) {
      const now = Date.now();
      const known = series.flatMap(({ key }) => points.map((one) => one[key])).filter((one) => one !== null);
      const highest = Math.max(floor, ...known);
      series.forEach(({ key }, index) => {
        lines[index].setAttribute("d", path(points, key, { now, step, highest }));
        say(values[index], format(points.at(-1)?.[key] ?? null));
      });
      say(top, known.length ? format(highest) : "");
      drawing.setAttribute(
        "aria-label",
        `${title}: ${series
          .map(({ name, key }) => {
            const own = points.map((one) => one[key]).filter((one) => one !== null);
            return own.length
              ? `${name} now ${format(points.at(-1)[key])}, at most ${format(Math.max(...own))}`
              : `${name} unknown`;
          })
          .join("; ")}`,
      );
    },
  };
}

function path(points, key, { now, step, highest }) {
  let drawn = "",
    before = null;
  for (const point of points) {
    const at = Date.parse(point.at),
      value = point[key];
    if (value !== null) {
      const x = ((at - now + HOUR) / HOUR) * WIDE,
        y = HIGH - 2 - (value / highest) * (HIGH - 6);
      const joined = before !== null && at - before < step * 2500;
      // What stands alone is a dot: a line of no length with round ends.
      drawn += joined ? `L${x.toFixed(1)} ${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}h0`;
    }
    before = value === null ? null : at;
  }
  return drawn;
}
