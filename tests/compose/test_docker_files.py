"""The container files, as far as they can be held to something without a container engine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from compose.dashboards.queue.queue import QUEUE
from compose.local.kafka_jars import KAFKA_VERSION
from compose.settings import load

FOLDER = Path(__file__).parents[2] / "compose" / "docker"
ROOT = FOLDER.parents[1]
NO_FILE = Path("/nonexistent/.env")


@pytest.fixture(scope="module")
def services() -> dict:
    return services_of((FOLDER / "compose.yml").read_text())


def services_of(text: str) -> dict:
    return yaml.safe_load(text)["services"]


def interpolated(text: str, given: dict[str, str] | None = None) -> str:
    """Return ``text`` as Compose reads it with the variables ``given``: ``${NAME:-default}``.

    A default may hold another variable and braces of its own.
    """
    start = text.find("${")
    if start < 0:
        return text
    depth, end = 1, start + 2
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    name, _, default = text[start + 2 : end - 1].partition(":-")
    value = (given or {}).get(name) or interpolated(default, given)
    return text[:start] + value + interpolated(text[end:], given)


def test_the_log_is_as_durable_as_promise_1_says(services):
    command = services["log"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"


def test_the_database_has_the_settings_that_the_service_advises(services):
    options = dict(option.split("=") for option in services["database"]["command"][2::2])
    assert options == {
        "wal_compression": "lz4",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
    }


def test_kafka_is_there_by_a_profile_as_durable_and_as_it_is_tested(services):
    kafka = services["kafka"]
    assert kafka["profiles"] == ["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert kafka["environment"]["KAFKA_LOG_FLUSH_INTERVAL_MESSAGES"] == "1"
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    for name in ("app", "worker"):
        waits = services[name]["depends_on"]["kafka"]
        assert waits == {"condition": "service_healthy", "required": False}


def test_kafkas_health_check_starts_no_java(services):
    """It runs every two seconds, for as long as the container does."""
    kafka = services["kafka"]
    _, port = kafka["environment"]["KAFKA_LISTENERS"].split(",")[0].rsplit(":", 1)
    command = ["CMD", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
    assert kafka["healthcheck"]["test"] == command


def test_what_takes_traces_stops_after_what_sends_them(services):
    """Compose stops what depends on a service before it."""
    for name in ("app", "worker"):
        endpoint = interpolated(services[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"])
        waits = services[name]["depends_on"][urlsplit(endpoint).hostname]
        assert waits == {"condition": "service_started", "required": False}


def test_a_message_leads_to_its_trace_where_traces_are_published(services):
    (published,) = services["traces"]["ports"]
    for given in ({}, {"TRACES_PORT": "17000"}):
        port = interpolated(published, given).split(":")[1]
        address = interpolated(services["app"]["environment"]["INGRESS_TRACE_URL"], given)
        assert address == f"http://localhost:{port}/trace/{{traceId}}"
    own = {"INGRESS_TRACE_URL": "https://traces.example/{traceId}"}
    assert interpolated(services["app"]["environment"]["INGRESS_TRACE_URL"], own) == (
        "https://traces.example/{traceId}"
    )


def test_the_console_leads_to_the_dashboards_where_grafana_is_published(services):
    (published,) = services["grafana"]["ports"]
    for given in ({}, {"GRAFANA_PORT": "17001"}):
        port = interpolated(published, given).split(":")[1]
        address = interpolated(services["app"]["environment"]["INGRESS_GRAFANA_URL"], given)
        assert address == f"http://localhost:{port}/d/{QUEUE.uid}"
    own = {"INGRESS_GRAFANA_URL": "https://grafana.example/"}
    assert interpolated(services["app"]["environment"]["INGRESS_GRAFANA_URL"], own) == (
        "https://grafana.example/"
    )


def test_prometheus_keeps_its_samples_on_its_volume(services):
    prometheus = services["prometheus"]
    (place,) = (
        option.partition("=")[2]
        for option in prometheus["command"]
        if option.startswith("--storage.tsdb.path=")
    )
    assert f"prometheus:{place}" in prometheus["volumes"]


def test_every_setting_given_to_the_service_exists_and_is_accepted(services):
    given = services["app"]["environment"]
    parts = load(env_file=NO_FILE)
    known = {field.upper() for part in parts for field in type(part).model_fields}
    assert set(given) <= known
    values = {name: interpolated(value) for name, value in given.items()}
    load({name: value for name, value in values.items() if value}, env_file=NO_FILE)


def test_nothing_is_published_beyond_this_machine(services):
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_image_is_built_from_the_service_and_from_nothing_else():
    """The last pattern that matches decides; messages, environments and caches stay out."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    first, *others = [line for line in lines if line and not line.startswith("#")]
    taken = [line.removeprefix("!") for line in others if line.startswith("!")]
    packages = [path.parent.name for path in ROOT.glob("*/py.typed") if path.parent.name != "lab"]
    files = ["pyproject.toml", "constraints.txt", "README.md", "LICENSE"]
    assert first == "*"
    assert sorted(taken) == sorted(packages + files)
    assert others[len(taken) :] == ["**/__pycache__", "**/*.py[co]"]


def test_every_builder_reads_the_same_ignore_file():
    """BuildKit prefers one beside the Dockerfile; the classic builder reads only the root's."""
    others = [path for path in FOLDER.rglob("*dockerignore") if path.is_file()]
    assert others == []
    build = services_of((FOLDER / "compose.yml").read_text())["app"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT


def test_nothing_can_be_installed_in_the_image():
    """Its environment is made without pip, by the pip of the stage that is thrown away."""
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    assert any("venv --without-pip /app" in line for line in lines)


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
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    places = [FOLDER / mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(places) > 3
    assert [str(place) for place in places if not place.exists()] == []
