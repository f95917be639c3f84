"""The log of ``crossfade up``: bounded, whole, and in the terminal only what matters."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
import structlog

from compose.commands.up.log import Notices, RotatingFile
from compose.terminal import Terminal
from otel.logging import configure
from otel.settings import OtelSettings


def _complain(_: str) -> None:
    raise AssertionError


def test_the_file_keeps_its_size_and_the_newest_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "crossfade.log"
    for run in range(2):  # the second goes on where the first ended
        with RotatingFile(path, failed=_complain, largest=1000, kept=2) as file:
            for number in range(100):
                file.write(f"{run} line {number:03}\n")
    kept = [tmp_path / f"crossfade.log{suffix}" for suffix in (".2", ".1", "")]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert all(file.stat().st_size <= 1011 for file in kept)
    lines = [line for file in kept for line in file.read_text().splitlines()]
    every = [f"{run} line {number:03}" for run in range(2) for number in range(100)]
    assert lines == every[-len(lines) :]
    assert path.stat().st_mode & 0o077 == 0


def test_a_full_disk_costs_lines_and_is_told_once() -> None:
    told: list[str] = []
    with RotatingFile(Path("/dev/full"), failed=told.append) as file:
        for _ in range(3):
            assert file.write("a line\n") == 7
    (line,) = told
    assert "No space left on device" in line


@pytest.fixture
def clock() -> list[float]:
    """The seconds that have passed."""
    return [1000.0]


@pytest.fixture
def shown(tmp_path: Path, clock: list[float]):
    """Log to a file as ``crossfade up`` does; return what its terminal shows."""
    terminal, written = Terminal(), io.StringIO()
    terminal.file = written
    file = RotatingFile(tmp_path / "log", failed=_complain)
    told = Notices(terminal, tmp_path / "log", clock=lambda: clock[0])
    configure(OtelSettings(), stream=file, echo=told)
    yield lambda: [line[9:] for line in written.getvalue().splitlines()]
    structlog.reset_defaults()
    logging.basicConfig(force=True, handlers=[logging.NullHandler()])
    file.close()


def test_warnings_and_errors_are_a_line_each_and_the_rest_is_in_the_file(
    shown, tmp_path: Path
) -> None:
    log = structlog.get_logger()
    log.info("Persisted", message_id="1")
    log.warning("Paused\x1b[2J", dependency="postgres", password="hunter2")
    log.error("Unhandled", exc_info=RuntimeError("the cause\nof it"))
    logging.getLogger("a.library").error("it is %s", "gone")
    assert shown() == [
        r"warning: Paused\x1b[2J  (dependency=postgres, password=***)",
        f"error: Unhandled  (of it); its traceback is in {tmp_path / 'log'}",
        "error: it is gone",
    ]
    assert len((tmp_path / "log").read_text().splitlines()) == 4


def test_what_happens_again_and_again_is_shown_once(shown, clock: list[float]) -> None:
    log = structlog.get_logger()
    for number in range(500):
        log.warning("Failed", message_id=str(number))
    log.warning("Paused")
    clock[0] += 11
    log.warning("Failed", message_id="500")
    assert shown() == [
        "warning: Failed  (message_id=0)",
        "warning: Paused",
        "warning: Failed  (message_id=500, and 499 times before)",
    ]
