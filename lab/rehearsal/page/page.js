// A line under the pointer through every picture, and the figures of that moment above them.
const data = JSON.parse(document.getElementById("data").textContent);
const readout = document.querySelector(".readout");
const resting = [...readout.childNodes];
const cursors = document.querySelectorAll(".cursor");
function bold(label, value) {
  const span = document.createElement("span"),
    figure = document.createElement("b");
  figure.textContent = value;
  span.append(label + " ", figure);
  return span;
}
const known = (value, unit) => (value === null || value === undefined ? "unknown" : value + unit);

function show(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const share = Math.min(0.9999, Math.max(0, (event.clientX - box.left) / box.width));
  const series = data.series,
    n = Math.floor(share * series.ok.length),
    at = share * series.ok.length * series.step;
  const phase = data.phases.filter((one) => one.begun <= at).pop();
  const fault = data.faults.filter((one) => one.begun <= at && at <= one.healed).pop();
  const rate = (value) => Math.round(value / series.step) + " /s";
  readout.replaceChildren(
    ...[
      bold("at", at.toFixed(0) + " s"),
      phase ? bold("phase", phase.phase + (at < phase.rolled ? " restarting" : "")) : "",
      bold("answered", rate(series.ok[n])),
      series.failed[n] ? bold("not", rate(series.failed[n])) : "",
      bold("p50", known(series.p50Ms[n], " ms")),
      bold("p99", known(series.p99Ms[n], " ms")),
      ...Object.keys(series.lag).map((name) => bold("lag " + name, known(series.lag[name][n], ""))),
      series.parity.differing[n] === null ? "" : bold("differ", series.parity.differing[n]),
      fault ? bold(fault.way, fault.victim) : "",
    ].filter(Boolean),
  );
  for (const cursor of cursors) {
    cursor.style.display = "block";
    cursor.style.left = share * 100 + "%";
  }
}

function hide() {
  readout.replaceChildren(...resting);
  for (const cursor of cursors) cursor.style.display = "none";
}

for (const box of document.querySelectorAll(".canvas, .strip")) {
  box.addEventListener("pointermove", show);
  box.addEventListener("pointerdown", show);
  box.addEventListener("pointerleave", hide);
}
