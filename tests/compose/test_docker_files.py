"""The container files, as far as they can be held to something without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from compose.local.kafka_jars import KAFKA_VERSION
from compose.settings import load

FOLDER = Path(__file__).parents[2] / "compose" / "docker"
ROOT = FOLDER.parents[1]
NO_FILE = Path("/nonexistent/.env")


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]


def test_the_log_is_as_durable_as_promise_1_says(services):
    command = services["log"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"


def test_kafka_is_there_by_a_profile_as_durable_and_as_it_is_tested(services):
    kafka = services["kafka"]
    assert kafka["profiles"] == ["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert kafka["environment"]["KAFKA_LOG_FLUSH_INTERVAL_MESSAGES"] == "1"
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    for name in ("app", "worker"):
        waits = services[name]["depends_on"]["kafka"]
        assert waits == {"condition": "service_healthy", "required": False}


def test_every_setting_given_to_the_service_exists_and_is_accepted(services):
    given = services["app"]["environment"]
    parts = load(env_file=NO_FILE)
    known = {field.upper() for part in parts for field in type(part).model_fields}
    assert set(given) <= known
    values = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in given.items()}
    load({name: value for name, value in values.items() if value}, env_file=NO_FILE)


def test_nothing_is_published_beyond_this_machine(services):
    published = [port for one in services.values() for port in one.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_image_holds_every_package(services):
    copied = re.findall(r"^COPY (\w+) \w+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    packages = [path.parent.name for path in ROOT.glob("*/py.typed")]
    assert sorted(copied) == sorted(packages)
    assert all(f"!{package}" in ignored for package in packages)


def test_docker_compose_takes_the_file():
    """Where there is the tool; it needs no container engine for that."""
    found = shutil.which("docker") and subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    )
    if not found or found.returncode:
        pytest.skip("no 'docker compose' here: compose.yml was read as YAML only")
    command = ["docker", "compose", "-f", "compose.yml", "--profile", "kafka", "config", "--quiet"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_file_that_is_mounted_is_there(services):
    mounts = [mount for one in services.values() for mount in one.get("volumes", [])]
    places = [FOLDER / mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(places) > 3
    assert [str(place) for place in places if not place.exists()] == []
