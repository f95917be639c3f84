"""Prometheus's own programs, from the PATH; without them their tests are skipped, by name."""

from __future__ import annotations

import os
import shutil

import pytest


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not on the PATH; .ci/run installs it (apt package prometheus)")
        pytest.skip(f"{name} is not on the PATH: nothing was proved with the real one")
    return path


@pytest.fixture(scope="session")
def promtool() -> str:
    return _program("promtool")


@pytest.fixture(scope="session")
def prometheus_program() -> str:
    return _program("prometheus")
