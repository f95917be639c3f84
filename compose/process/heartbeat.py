"""A process's report to the other processes: its settings, addresses and the state of its parts."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from importlib.metadata import version

from compose.process.logs.transports import written_by
from compose.process.metrics import ProcessMetrics
from compose.process.role import Role
from compose.process.wiring import Service
from ingress.metrics import IngressMetrics
from migration_guide.chain_guard import ChainGuard
from migration_guide.expectation import Expectation
from migration_guide.machine import Machine
from otel.figures import Figures
from persistence.fleet.heartbeat import Heartbeat, HeartbeatReport, Identity
from persistence.fleet.heartbeat import machine as this_machine
from persistence.fleet.log_choice import choice_of
from persistence.fleet.migration_state import MigrationState
from persistence.metrics import PersistenceMetrics
from transport.features.throttling import throttled_lately

__all__ = ["heartbeat_of"]


def heartbeat_of(role: Role, parts: Service, *, url: str, metrics_url: str) -> Heartbeat:
    """Return the heartbeat of this process.

    Args:
        role: The process's role.
        parts: The process's parts; each heartbeat reports their state.
        url: The address of the API, or of the health endpoints of a worker.
        metrics_url: The address of the metrics.
    """
    context = parts.context
    settings, metrics = context.settings.transport, context.metrics
    choice = choice_of(settings)
    identity = Identity(
        member=context.member,
        role=role.value,
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        version=version("crossfade"),
        api_url=url,
        metrics_url=metrics_url,
        transport=choice.transport,
        transport_shadow=choice.shadow,
        transport_shadow_mode=choice.mode,
        consume_from=choice.consume_from,
        started_at=datetime.now(UTC),
        payload_stores=context.settings.payloads.stores,
    )

    expectation = Expectation(choice, metrics)
    machine = Machine(context.pool)
    guard = ChainGuard(machine, context.chain, choice, who=identity.member)

    async def heard(state: MigrationState | None) -> None:
        if state is None:
            await machine.adopt(choice, who=identity.member)
        expectation.compare(state)
        if role is not Role.WORKER:  # a worker accepts no message
            await guard.compare(state)

    figures = Figures(
        {
            "ack": metrics.of(IngressMetrics).ack,
            "persist": metrics.of(PersistenceMetrics).end_to_end,
        }
    )
    died = metrics.of(ProcessMetrics).processes_died.inc
    return Heartbeat(
        context.pool,
        identity,
        lambda: _report(parts, figures),
        heard,
        known=parts.identities.compare,
        died=died,
        writes=written_by(role, settings),
    )


def _report(parts: Service, figures: Figures) -> HeartbeatReport:
    shadow = parts.logs.mirror.status().summary() if parts.logs.mirror else None
    throttled = throttled_lately(parts.logs.every) or None
    if parts.consumers is None:
        return HeartbeatReport(
            figures=figures.report(),
            shadow=shadow,
            logs=parts.identities.report(),
            throttled=throttled,
            append_outage=parts.logs.appends.outage(),
        )
    consumers = parts.consumers
    status = consumers.worker.status()
    followed = {one.transport.name: one.status() for one in consumers.followers}
    followed |= consumers.drainer.status()
    epochs = {parts.logs.consumed.name: status.epochs}
    epochs |= {name: status.epochs for name, status in followed.items()}
    return HeartbeatReport(
        owned={
            name: {str(part): epoch for part, epoch in owned.items()}
            for name, owned in epochs.items()
            if owned is not None
        },
        paused=status.paused,
        shadow=shadow,
        followers={name: status.summary() for name, status in followed.items()} or None,
        figures=figures.report(),
        logs=parts.identities.report(),
        throttled=throttled,
        append_outage=parts.logs.appends.outage(),
    )
