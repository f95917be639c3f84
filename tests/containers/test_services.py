"""``TEST_SERVICES=docker``: the transports' own tests, on containers of every image."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compose.local.kafka_jars import KAFKA_VERSION
from tests.containers.engine import EngineMissing, given_engine
from tests.support.services import REDIS_IMAGES

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

TESTS = Path(__file__).parents[1]
CONFORMANCE = (
    TESTS / "transport" / "test_redis_conformance.py",
    TESTS / "kafka" / "test_kafka_conformance.py",
)
STOPS_ITS_SERVER = "after_a_restart or server_is_gone"


def test_the_transports_tests_run_on_containers_of_every_image(record_property):
    try:
        engine = given_engine()
    except EngineMissing as missing:
        pytest.skip(f"{missing}: see 'make containers'")
    began = int(time.time())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", STOPS_ITS_SERVER, *map(str, CONFORMANCE)],
        env={**os.environ, "TEST_SERVICES": "docker"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    record_property("tests", re.findall(r"\d+ passed", done.stdout)[-1])
    started = engine.docker(
        "events", "--since", str(began), "--until", str(int(time.time()) + 1),
        "--filter", "event=start", "--format", "{{.From}}",
    ).stdout.split()  # fmt: skip
    for image in (*REDIS_IMAGES, f"apache/kafka:{KAFKA_VERSION}"):
        assert started.count(image) >= 2, (image, started)
