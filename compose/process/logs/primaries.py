"""Readiness of logs' primaries: degraded while there are two, or sentinels don't confirm one."""

from __future__ import annotations

from collections.abc import Sequence

from ingress.readiness import ComponentState, Probe
from transport.contract import Transport
from transport.features.server_warnings import server_warnings

__all__ = ["primary_probes"]


def primary_probes(logs: Sequence[Transport]) -> list[Probe]:
    """Return a probe for each log that watches its primary: degraded while it warns."""
    return [_probe(log) for log in logs if server_warnings(log) is not None]


def _probe(log: Transport) -> Probe:
    name = f"primary of the log ({log.name})"

    async def probe() -> ComponentState:
        if found := server_warnings(log):
            detail = f"{'; '.join(found)}. See RUNBOOKS.md, 'Redis has two primaries'."
            return ComponentState(name, "degraded", False, detail)
        return ComponentState(name, "up", False, "A majority of the sentinels names it.")

    return probe
