"""``crossfade soak --again``: the report of a record that is there, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.made_records import write_record
from tests.support.forked_commands import ForkedCommands


def leaks(at: float) -> float:
    return 90 + at / 60


def stays(_: float) -> float:
    return 90.0


@pytest.mark.parametrize(
    ("hours", "memory", "status"), [(1.0, stays, 0), (1.0, leaks, 1), (0.2, stays, 3)]
)
async def test_the_exit_status_says_whether_anything_grows(
    tmp_path: Path, hours: float, memory: Callable[[float], float], status: int
) -> None:
    write_record(tmp_path / "soak.jsonl", hours=hours, memory=memory)
    commands = ForkedCommands(tmp_path)
    ran = await commands.run("soak", "--again", "--report", str(tmp_path), settings={})
    assert ran.status == status, ran.everything
    assert "nothing lost, doubled or reordered" in ran.everything
    assert str(tmp_path / "report.html") in ran.everything
    ran = await commands.run("soak", "--again", "--json", "--report", str(tmp_path), settings={})
    assert ran.status == status
    assert json.loads(ran.output)["verdict"]["lost"] == 0


async def test_without_a_record_it_says_so(tmp_path: Path) -> None:
    ran = await ForkedCommands(tmp_path).run(
        "soak", "--again", "--report", str(tmp_path), settings={}
    )
    assert ran.status == 1
    assert "no soak was run with --report" in ran.everything


@pytest.mark.parametrize("options", [("--log", "memory"), ("--hours", "1", "--minutes", "2")])
async def test_what_can_not_be_run_is_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    ran = await ForkedCommands(tmp_path).run("soak", *options, settings={})
    assert ran.status == 2, ran.everything
