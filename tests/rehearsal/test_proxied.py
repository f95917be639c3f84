"""A rolling restart behind an ordinary proxy: every client gets its answer at the first try."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.harness.history import Outcome
from lab.harness.proxy import ProxyKind
from lab.rehearsal.options import Options
from lab.rehearsal.rehearse import Rehearsal
from tests.support.forked_service import ForkedService
from tests.support.requirements import program


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kind",
    [ProxyKind.HAPROXY, pytest.param(ProxyKind.NGINX, marks=pytest.mark.chaos)],
)
async def test_no_client_notices_that_the_processes_behind_are_replaced(
    tmp_path: Path, kind: ProxyKind
) -> None:
    program(kind, package=kind)
    options = Options(
        seconds_per_phase=1.0,
        rate=40.0,
        conversations=12,
        crowded=2,
        ingresses=2,
        workers=0,
        parity_seconds=5.0,
        phases=(0, 1),
        proxy=kind,
        replayed_conversations=0,
    )
    rehearsal = Rehearsal(tmp_path, options, lambda _: None, service=ForkedService)
    report = await rehearsal.run()
    assert report.passed, (report.stopped, report.findings[:3])
    unanswered = [a for a in rehearsal.history.attempts if not a.answered]
    assert not unanswered, unanswered[:3]
    # Each process took messages in each phase, as the proxy's answers say.
    served = {(a.via, a.phase) for a in rehearsal.history.attempts if a.outcome is Outcome.OK}
    assert served == {(f"ingress-{n}", phase) for n in (1, 2) for phase in (0, 1)}
