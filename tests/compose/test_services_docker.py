"""``make test TEST_SERVICES=docker`` tests what it says, as far as that shows without an engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "TEST_SERVICES")  # of the one that runs the tests


@pytest.mark.parametrize(("target", "services"), [("test", "docker"), ("containers", "")])
def test_what_starts_containers_is_installed(target, services):
    """``testcontainers`` is in an extra of its own: others do without."""
    asked = ["make", "--dry-run", target, *([f"TEST_SERVICES={services}"] if services else [])]
    clean = {name: value for name, value in os.environ.items() if name not in _OF_MAKE}
    done = subprocess.run(asked, cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    (installs,) = [line for line in done.stdout.splitlines() if "compose/bootstrap.py" in line]
    assert installs.split("bootstrap.py", 1)[1].split() == ["local", "dev", "docker"]


def test_every_image_of_redis_is_tested_and_none_but_containers():
    chosen = ["tests/transport/test_redis_conformance.py", "tests/transport/test_redis_opening.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *chosen],
        cwd=ROOT, env={**os.environ, "TEST_SERVICES": "docker"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    named = [line.rpartition("[")[2] for line in done.stdout.splitlines() if "[" in line]
    servers = {name.removesuffix("]").partition("-")[0] for name in named}
    assert servers == {"valkey/valkey", "redis"}
