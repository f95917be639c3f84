"""The real thing, short: every phase there and back, its gates, a fault in each, large content."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lab.rehearsal.files import save
from lab.rehearsal.options import THERE_AND_BACK, Options
from lab.rehearsal.part import WAYS
from lab.rehearsal.rehearse import Rehearsal
from tests.support.forked_service import ForkedService
from tests.support.kafka import require_kafka
from tests.support.requirements import absent


@pytest.mark.timeout(1200)
async def test_there_and_back_with_a_fault_in_every_phase(tmp_path: Path) -> None:
    """Two processes that accept and persist: the least that a rolling restart can be done with.

    The seed's faults are of every kind of victim, and in every way.
    """
    await require_kafka()
    said: list[str] = []
    options = Options(
        seconds_per_phase=0.5,
        rate=30.0,
        conversations=12,
        crowded=2,
        ingresses=2,
        workers=0,
        faults=True,
        faults_per_phase=1,
        parity_seconds=5.0,
        large=0.33,
        seed=375,
        replayed_conversations=2,
        replayed_messages=80,
        replay_seconds=45.0,
    )
    rehearsal = Rehearsal(tmp_path / "rehearsal", options, said.append, service=ForkedService)
    report = await rehearsal.run()
    await rehearsal.replay(report)
    page = save(tmp_path / "report", report, rehearsal, tmp_path / "rehearsal")
    assert report.second.agrees or report.second.missing, report.second
    assert report.replayed, report.not_replayed
    assert not report.replayed.refused, report.replayed.refused[:2]
    assert report.replayed.steps > 0
    assert report.passed, f"{report.stopped} {report.verdict} {report.findings[:5]}\n{page}"
    assert [phase.phase for phase in report.phases] == list(THERE_AND_BACK)
    assert all(phase.faults for phase in report.phases), "a phase without a fault"
    hurt = {(fault.victim.partition("-")[0], fault.way) for fault in report.faults}
    assert {kind for kind, _ in hurt} == {"ingress", "postgres", "redis", "kafka"}
    assert {way for _, way in hurt} == set(WAYS)
    assert all(phase.ok > 20 for phase in report.phases), "a phase without load"
    assert all(mark.gates for mark in report.gates), "a step without its gates"
    assert report.totals.messages == len({a.key for a in rehearsal.history.acknowledged()})
    assert 0.2 < report.totals.large / report.totals.messages < 0.5
    assert set(report.totals.records) == {"redis", "kafka"}
    history = (page.parent / "history.jsonl").read_bytes()
    assert history.startswith(b'{"type":"history"')
    assert history.count(b'{"type":"page"') == 6, "nobody read pages"
    assert msgspec.json.decode((page.parent / "report.json").read_bytes())["passed"]
    if report.second.missing:
        absent(f"the second checker's opinion: {report.second.missing}")
