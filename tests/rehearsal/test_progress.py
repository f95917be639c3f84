"""The progress of a rehearsal or a soak: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import io

import pytest

from compose.terminal import Terminal
from lab.harness.run_progress import RunProgress, Standing
from tests.support.eventually import eventually


async def _followed() -> str:
    terminal, written = Terminal(), io.StringIO()
    terminal.file, terminal.width = written, 120
    progress = RunProgress(terminal, estimated=True)
    progress.say("a step [/x]")
    looks: list[None] = []

    def standing() -> Standing:
        looks.append(None)
        return Standing(1.0, (("12 ok", "green"), " [red]0[/] failed"))

    with progress.following(standing, total=2.0):
        if terminal.is_terminal:
            await eventually(lambda: len(looks) > 0)
        await asyncio.sleep(0)
    return written.getvalue()


async def test_a_terminal_shows_the_step_and_the_counts_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    shown = await _followed()
    assert "a step [/x]" in shown
    assert "12 ok" in shown
    assert "[red]0[/] failed" in shown


async def test_elsewhere_each_step_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    lines = (await _followed()).splitlines()
    assert [line.partition(" s  ")[2] for line in lines] == ["a step [/x]"]
