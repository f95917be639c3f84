"""Prometheus's own programs, from the PATH; without them their tests are skipped, by name."""

from __future__ import annotations

import pytest

from tests.support.requirements import program


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("promtool", package="prometheus")


@pytest.fixture(scope="session")
def prometheus_program() -> str:
    return program("prometheus", package="prometheus")
