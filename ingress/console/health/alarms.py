"""The alarms of the whole service in ``/readyz``: another process's too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ingress.console.health.wording import alarms_in, with_remedy
from ingress.console.sampler import Sampler
from ingress.console.views import Sentence
from ingress.readiness import ComponentState, Probe
from otel.rounds import completed

__all__ = ["alarms_probe"]

_log = structlog.get_logger(__name__)

_AGE_SECONDS = 5.0
"""The age of a sample without alarms. A load balancer asks every second, and a sample asks every
log and PostgreSQL."""


def alarms_probe(sampler: Sampler, *, timeout_seconds: float) -> Probe:
    """Return the probe of the service's alarms: degraded while there are any, and never required.

    A process that accepts messages stays in its load balancer whatever else is wrong: messages wait
    in the log, and without the process they would be refused. If the sample takes longer than
    ``timeout_seconds``, the answer is that of the sample before.
    """
    latest: Sequence[Sentence] | None = None
    sampling: asyncio.Task[bool] | None = None

    async def sample() -> None:
        nonlocal latest
        age = 0.0 if latest else _AGE_SECONDS  # the end of an alarm is shown at once
        latest = alarms_in((await sampler.glance(age=age)).health)

    async def probe() -> ComponentState:
        nonlocal sampling
        if sampling is None or sampling.done():
            sampling = asyncio.create_task(
                completed(sample(), _log, "The alarms of the service could not be read; will retry")
            )
        await asyncio.wait([sampling], timeout=timeout_seconds)
        if latest is None:
            return ComponentState("service", "up", False, "The alarms are not known yet.")
        if not latest:
            return ComponentState("service", "up", False, "No alarm is known.")
        return ComponentState("service", "degraded", False, " ".join(map(with_remedy, latest)))

    return probe
