"""The service's time limits in a rehearsal: short beside faults, those of users without."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.harness.service import RehearsedService
from lab.rehearsal.options import Options
from lab.rehearsal.stage import Stage
from lab.rehearsal.timeline import RehearsalTimeline
from transport.settings import TransportSettings

_LIMITS = ("kafka_timeout_ms", "redis_timeout_ms", "transport_shadow_timeout_ms")


@pytest.mark.parametrize("faults", [False, True])
async def test_limits_are_short_only_beside_faults(tmp_path: Path, *, faults: bool) -> None:
    stage = Stage(tmp_path, Options(faults=faults), RehearsalTimeline(), RehearsedService)
    settings = stage.transport_settings()
    for name in _LIMITS:
        default = TransportSettings.model_fields[name].default
        assert (getattr(settings, name) < default) is faults
        assert (getattr(settings, name) == default) is not faults
