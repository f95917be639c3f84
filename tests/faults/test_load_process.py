"""The load in a process of its own records the same history as a load in this process."""

from __future__ import annotations

import pytest

from lab.harness.history import Outcome
from lab.harness.load import LoadOptions
from lab.harness.load_process import LoadProcess
from tests.faults.deployment import Deployment


async def test_a_load_apart_records_what_its_clients_were_told(deployment: Deployment) -> None:
    """The process learns each ingress's state and phase, and reports every attempt."""
    ingresses, _ = await deployment.run()
    first, second = ingresses
    options = LoadOptions(run="apart", pause=0.05, catch_up=True, patience=1.0)
    async with LoadProcess(deployment.history, ingresses, options) as load:
        await load.goes_on(100)
        await first.kill()
        first.phase = 3
        await load.goes_on(50)
        await first.start()
        await load.goes_on(200)
    await deployment.assert_promises_held()
    attempts = deployment.history.attempts
    assert [a.sent for a in attempts] == sorted(a.sent for a in attempts)
    assert {a.phase for a in attempts if a.via == first.name} == {None, 3}
    assert {a.phase for a in attempts if a.via == second.name} == {None}
    assert load.answered == sum(a.answered for a in attempts)
    assert load.answered + load.unanswered == len(attempts)
    assert load.acknowledged == sum(a.outcome is Outcome.OK and a.due is not None for a in attempts)
    # No message is sent before it is due.
    assert all(a.sent >= a.due - 1e-6 for a in attempts if a.due is not None)


async def test_a_load_that_ends_early_still_records_what_it_sent(deployment: Deployment) -> None:
    """A rehearsal that stops at a red gate checks every request, also those without an answer."""
    ingresses, _ = await deployment.run()
    options = LoadOptions(run="early", pause=0.02, patience=1.0)
    with pytest.raises(ZeroDivisionError):
        async with LoadProcess(deployment.history, ingresses, options) as load:
            await load.goes_on(100)
            raise ZeroDivisionError
    await deployment.assert_promises_held()
