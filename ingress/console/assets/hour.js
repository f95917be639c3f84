// The last hour: charts, and the same as a table.

import { get } from "./api.js";
import { hourChart } from "./chart.js";
import { fill, h, row, table } from "./dom.js";
import { bound, clock, count, rate } from "./format.js";

const EVERY = 10000,
  MINUTES = 5;
const CHARTS = [
  {
    title: "Messages a second",
    format: rate,
    series: [
      { name: "accepted", key: "accepted" },
      { name: "persisted", key: "persisted" },
    ],
  },
  { title: "Records that wait for a worker", format: count, series: [{ name: "waiting", key: "waiting" }] },
  {
    title: "99 of 100 within",
    format: bound,
    floor: 0.001,
    series: [
      { name: "POST answered", key: "answeredP99" },
      { name: "row written", key: "writtenP99" },
    ],
  },
  {
    title: "Dead letters that wait for a decision",
    format: count,
    series: [{ name: "pending", key: "deadLetters" }],
  },
];
const HEADINGS = [
  { title: "Until" },
  { title: "Accepted /s, mean", numeric: true },
  { title: "Persisted /s, mean", numeric: true },
  { title: "Waiting, most", numeric: true },
  { title: "POST p99, worst", numeric: true },
  { title: "Row p99, worst", numeric: true },
  { title: "Dead letters, most", numeric: true },
];

export function hourPart() {
  const charts = CHARTS.map(hourChart);
  const note = h("p", { class: "muted" });
  const more = h("span");
  const rows = h("div");
  const details = h(
    "details",
    { ontoggle: () => tell() },
    h("summary", null, "The last hour as a table"),
    rows,
  );
  const element = h(
    "section",
    { "aria-labelledby": "hour-title" },
    h("div", { class: "head" }, h("h2", { id: "hour-title" }, "The last hour"), more),
    h(
      "div",
      { class: "charts" },
      charts.map((one) => one.element),
    ),
    note,
    details,
  );
  let hour = null,
    timer = null,
    left = false,
    linked = null;

  function tell() {
    if (!hour || !details.open) return;
    const lines = told(hour.points);
    fill(
      rows,
      lines.length
        ? table(
            HEADINGS,
            lines.map((cells) => row(HEADINGS, cells)),
          )
        : h("p", { class: "muted" }, "Nothing is kept yet."),
    );
  }
  async function read() {
    try {
      hour = await get("api/console/hour");
      for (const one of charts) one.update(hour.points, hour.stepSeconds);
      const first = hour.points[0];
      fill(
        note,
        first && Date.now() - Date.parse(first.at) > 3500e3
          ? null
          : `Kept by this process (${hour.seenBy}) ${first ? `since ${clock(first.at)}` : "from its start on"}.`,
      );
      if (hour.grafanaUrl !== linked) {
        linked = hour.grafanaUrl;
        fill(
          more,
          /^https?:/.test(linked ?? "")
            ? h("a", { href: linked, rel: "noreferrer", target: "_blank" }, "Open Grafana ↗")
            : null,
        );
      }
      tell();
    } catch {
      /* what there is stays; the page says by itself how old it is */
    }
    if (!left) timer = setTimeout(read, EVERY);
  }
  read();
  return {
    element,
    leave() {
      left = true;
      clearTimeout(timer);
    },
  };
}

// One row for each five minutes, the latest first.
function told(points) {
  const parts = new Map();
  for (const point of points) {
    const until = Math.ceil(Date.parse(point.at) / (MINUTES * 60e3)) * MINUTES * 60e3;
    parts.set(until, [...(parts.get(until) ?? []), point]);
  }
  return [...parts].reverse().map(([until, part]) => {
    const known = (key) => part.map((point) => point[key]).filter((value) => value !== null);
    const most = (key) => (known(key).length ? Math.max(...known(key)) : null);
    const mean = (key) =>
      known(key).length ? known(key).reduce((sum, value) => sum + value) / known(key).length : null;
    return [
      clock(new Date(until).toISOString()),
      rate(mean("accepted")),
      rate(mean("persisted")),
      count(most("waiting")),
      bound(most("answeredP99")),
      bound(most("writtenP99")),
      count(most("deadLetters")),
    ];
  });
}
