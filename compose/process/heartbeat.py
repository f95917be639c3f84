"""What a process says of itself to the others: settings, addresses, and how its parts are."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from importlib.metadata import version

from compose.process.metrics import ProcessMetrics
from compose.process.role import Role
from compose.process.wiring import Service
from compose.settings import Settings
from ingress.metrics import IngressMetrics
from migration_guide.choice import choice_of, phase_of
from migration_guide.expectation import Expectation
from migration_guide.machine import Machine
from otel.figures import Figures
from persistence.fleet.heartbeat import Heartbeat, HeartbeatReport, Identity
from persistence.fleet.heartbeat import machine as this_machine
from persistence.fleet.migration_state import MigrationState
from persistence.metrics import PersistenceMetrics

__all__ = ["presence_of"]


def presence_of(
    settings: Settings, role: Role, parts: Service, *, url: str, metrics_url: str
) -> Heartbeat:
    """Return the presence of this process, whose parts are ``parts``."""
    choice = choice_of(settings.transport)
    identity = Identity(
        member=parts.member,
        role=role.value,
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        version=version("crossfade"),
        api_url=url,
        metrics_url=metrics_url,
        phase=phase_of(settings.transport),
        transport=choice.transport,
        transport_shadow=choice.shadow,
        transport_shadow_mode=choice.mode,
        consume_from=choice.consume_from,
        started_at=datetime.now(UTC),
    )

    expectation = Expectation(choice, parts.metrics)
    machine = Machine(parts.pool)

    async def heard(state: MigrationState | None) -> None:
        if state is None and identity.phase is not None:
            await machine.adopt(identity.phase, who=identity.member)
        expectation.compare(state)

    figures = Figures(
        {
            "ack": parts.metrics.of(IngressMetrics).ack,
            "persist": parts.metrics.of(PersistenceMetrics).end_to_end,
        }
    )
    died = parts.metrics.of(ProcessMetrics).processes_died.inc
    return Heartbeat(parts.pool, identity, lambda: _report(parts, figures), heard, died=died)


def _report(parts: Service, figures: Figures) -> HeartbeatReport:
    shadow = parts.mirror.status().summary() if parts.mirror else None
    if parts.worker is None:
        return HeartbeatReport(figures=figures.report(), shadow=shadow)
    status = parts.worker.status()
    standbys = {one.transport.name: one.status() for one in parts.standbys}
    if parts.leftovers:
        standbys |= parts.leftovers.status()
    epochs = {parts.consumed.name: status.epochs}
    epochs |= {name: one.epochs for name, one in standbys.items()}
    return HeartbeatReport(
        owned={
            name: {str(part): epoch for part, epoch in owned.items()}
            for name, owned in epochs.items()
        },
        paused=[
            {"dependency": one.dependency, "since": one.since, "error": one.error}
            for one in status.paused
        ],
        shadow=shadow,
        standby={name: one.summary() for name, one in standbys.items()} or None,
        figures=figures.report(),
    )
