"""``make containers``: the container files on the engine that is there, or on one made here.

Arguments go to pytest (``ARGS="-k kafka"``), but for these: ``--given``: skip, and say so, where no
engine answers. ``--distribution``: ask no registry for images.

``CONTAINERS_FOLDER`` is where an engine made here keeps its images
(``~/.cache/crossfade/containers``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.table import Table
from rich.text import Text

from compose.local.kafka_jars import cache_dir
from tests.containers.engine import Engine, EngineMissing, OwnEngine, given_engine
from tests.containers.images import Images, add_plugins, named_images

_TRACES = "jaegertracing/jaeger"
_MARKS = {"passed": "[green]✓[/]", "failed": "[red]✗[/]", "skipped": "[yellow]-[/]"}


@dataclass
class Step:
    """A row of the table."""

    title: str
    outcome: str
    seconds: float
    figures: dict[str, object] = field(default_factory=dict)
    why: str = ""


class Run:
    """Does the steps, shows the one under way, and remembers them all."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.console = Console()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            Elapsed(),
            console=self.console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress while the block runs, and the table afterwards."""
        with self._progress:
            yield
        table = Table(title="The container files on an engine", title_justify="left")
        for column in ("", "step", "seconds", "figures"):
            table.add_column(column, justify="right" if column == "seconds" else "left")
        for step in self.steps:
            figures = ", ".join(f"{name}: {value}" for name, value in step.figures.items())
            table.add_row(
                _MARKS[step.outcome], Text(step.title), f"{step.seconds:.1f}", Text(figures)
            )
        self.console.print(table)
        for step in self.steps:
            if step.outcome == "failed":
                self.console.print(Text(f"\n{step.title}\n{step.why}"))

    @contextmanager
    def step(self, title: str) -> Iterator[dict[str, object]]:
        """Do one step that is no test. The block may add figures."""
        self._progress.update(self._task, description=title, total=None)
        began, figures = time.monotonic(), dict[str, object]()
        yield figures
        self._ended(Step(title, "passed", time.monotonic() - began, figures))

    def tests(self, engine: Engine, arguments: Sequence[str], without: Sequence[str]) -> None:
        """Run the tests where the ports of the containers are; ``without`` are missing images."""
        reading, writing = os.pipe()
        command = [
            *engine.inside, sys.executable, "-m", "pytest", "-q", "-m", "containers",
            "-p", "tests.containers.progress_lines", str(Path(__file__).parent), *arguments,
        ]  # fmt: skip
        told = {"CONTAINERS_TELL": str(writing), "CONTAINERS_WITHOUT": " ".join(without)}
        if engine.inside:  # all that it runs ends with it: nothing has to clean up after us
            told["TESTCONTAINERS_RYUK_DISABLED"] = "true"
        with tempfile.TemporaryFile("w+") as said:
            running = subprocess.Popen(
                command,
                env={**os.environ, **engine.environment, **told},
                pass_fds=[writing],
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            os.close(writing)
            with os.fdopen(reading) as lines:
                for line in lines:
                    self._told(json.loads(line))
            if running.wait() not in (0, 1):
                said.seek(0)
                self._ended(Step("pytest", "failed", 0, why=said.read()))

    def count(self) -> Counter[str]:
        """Return the number of steps by outcome."""
        return Counter(step.outcome for step in self.steps)

    def _told(self, event: dict[str, object]) -> None:
        if "tests" in event:
            self._progress.update(self._task, total=event["tests"], completed=0)  # type: ignore[arg-type]
        elif "begins" in event:
            self._progress.update(self._task, description=str(event["begins"]))
        else:
            title = event.pop("ends")
            self._ended(Step(title, **event))  # type: ignore[arg-type]

    def _ended(self, step: Step) -> None:
        self.steps.append(step)
        self._progress.advance(self._task)
        if not self.console.is_terminal:
            line = f"{step.outcome:8}{step.seconds:7.1f} s  {step.title}"
            self.console.print(Text(line), soft_wrap=True)


def main() -> int:
    """Return 0 if everything passed."""
    arguments = sys.argv[1:]
    given_only, distribution = ("--given" in arguments), ("--distribution" in arguments)
    arguments = [
        argument for argument in arguments if argument not in {"--given", "--distribution"}
    ]
    run = Run()
    try:
        with run.shown():
            try:
                engine = given_engine()
            except EngineMissing as missing:
                if given_only:
                    run.steps.append(Step(f"skipped: {missing}", "skipped", 0))
                else:
                    _on_our_own(run, missing, arguments, registry=not distribution)
            else:
                with run.step("build the image"):
                    Images(engine, Path(), registry=True).build_ours(network=None)
                run.tests(engine, arguments, ())
    except EngineMissing as missing:
        run.console.print(Text(f"error: {missing}"))
        return 1
    counted = run.count()
    figures = (f"{counted[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
    run.console.print(Text(", ".join(figures)))
    return 1 if counted["failed"] else 0


def _on_our_own(
    run: Run, missing: EngineMissing, arguments: Sequence[str], *, registry: bool
) -> None:
    folder = Path(os.environ.get("CONTAINERS_FOLDER") or cache_dir() / "containers")
    try:
        own = OwnEngine(folder)
    except EngineMissing as why:
        raise EngineMissing(f"{missing}, and {why}") from None
    with tempfile.TemporaryDirectory(prefix="containers-") as scratch:
        with run.step("an engine of our own"):
            add_plugins(own.config, Path(scratch))
        with own.building() as engine:
            images = Images(engine, Path(scratch), registry=registry)
            how = {}
            for name in named_images():
                with run.step(f"image {name}") as figures:
                    how[name] = figures["had"] = images.provide(name)
            with run.step("build the image"):
                images.build_ours(network="host")
            without = [name for name, found in how.items() if found == "missing"]
            for name in without:
                if name.startswith(_TRACES):
                    images.stand_in_for_traces(name)
    with own.running() as engine:
        run.tests(
            engine,
            arguments,
            [argument for argument in without if not argument.startswith(_TRACES)],
        )


if __name__ == "__main__":
    sys.exit(main())
