"""The real thing, short: every phase there and back, its gates, and a fault in each."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from compose.rehearsal.files import save
from compose.rehearsal.options import THERE_AND_BACK, Options
from compose.rehearsal.rehearse import Rehearsal
from migration_guide.gates import parity
from migration_guide.parity.comparison import Limits
from tests.support.kafka import require_kafka


# Not yet seen to be done within the time that `make test` has: `make chaos` runs it.
@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_there_and_back_with_a_fault_in_every_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that accept and persist: the least that a rolling restart can be done with."""
    await require_kafka()
    # Copies are there in milliseconds: the gates need not leave the last ten seconds out.
    monkeypatch.setattr(parity, "Limits", lambda: Limits(settle=1.0))
    said: list[str] = []
    options = Options(
        seconds_per_phase=1.0,
        rate=60.0,
        conversations=16,
        crowded=3,
        ingresses=2,
        workers=0,
        faults=True,
        faults_per_phase=1,
        seed=4,
        gate_seconds=180.0,
    )
    rehearsal = Rehearsal(tmp_path / "rehearsal", options, said.append)
    report = await rehearsal.run()
    page = save(tmp_path / "report", report, rehearsal, tmp_path / "rehearsal")
    assert report.passed, f"{report.stopped} {report.verdict} {report.findings[:5]}\n{page}"
    assert [one.phase for one in report.phases] == list(THERE_AND_BACK)
    assert all(one.faults for one in report.phases), "a phase without a fault"
    assert all(one.ok > 20 for one in report.phases), "a phase without load"
    assert all(mark.gates for mark in report.gates), "a step without its gates"
    assert report.totals.messages == len({a.key for a in rehearsal.history.acknowledged()})
    assert set(report.totals.records) == {"redis", "kafka"}
    assert msgspec.json.decode((page.parent / "report.json").read_bytes())["passed"]
