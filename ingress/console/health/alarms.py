"""The alarms of the whole service in ``/readyz``: another process's too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ingress.console.health.wording import alarms_in, with_remedy
from ingress.console.sampler import Sampler
from ingress.console.views import Sentence, Status
from ingress.readiness import ComponentState, Probe

__all__ = ["alarms_probe"]

_log = structlog.get_logger(__name__)

_AGE_SECONDS = 5.0
"""A load balancer asks every second, and a sample asks every log and PostgreSQL."""


def alarms_probe(sampler: Sampler, *, timeout_seconds: float) -> Probe:
    """Return the probe of the service's alarms: degraded while there are any, and never required.

    A process that accepts messages stays in its load balancer whatever else is wrong: messages wait
    in the log, and without the process they would be refused. If the sample takes longer than
    ``timeout_seconds``, the answer is that of the sample before.
    """
    sampling: asyncio.Task[Status] | None = None
    latest: Sequence[Sentence] = ()

    async def probe() -> ComponentState:
        nonlocal sampling, latest
        if sampling is None:
            sampling = asyncio.create_task(sampler.glance(age=_AGE_SECONDS))
        await asyncio.wait([sampling], timeout=timeout_seconds)
        if sampling.done():
            done, sampling = sampling, None
            if error := done.exception():
                _log.error("The service's alarms are unknown; will retry", exc_info=error)
            else:
                latest = alarms_in(done.result().health)
        if not latest:
            return ComponentState("service", "up", False, "No alarm is known.")
        return ComponentState("service", "degraded", False, " ".join(map(with_remedy, latest)))

    return probe
