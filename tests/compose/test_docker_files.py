"""The container files, as far as they can be held to something without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from compose.settings import load
from otel.metrics import Metrics

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


def test_the_guides_alerts_are_there_and_ask_for_metrics_that_exist():
    rules = yaml.safe_load((FOLDER / "prometheus/alerts/phase3-queue.yml").read_text())
    alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}
    assert {"QueuePartitionLagHigh", "QueueDLQRateHigh", "ConsumerProcessingErrors"} <= set(alerts)
    samples = {
        name
        for family in Metrics().registry.collect()
        for name in (family.name, f"{family.name}_total")
    }
    for rule in alerts.values():
        named = re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", rule["expr"])
        assert named
        assert set(named) <= samples


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not on the PATH")
def test_prometheus_accepts_its_configuration_and_the_alerts_fire_when_they_should():
    folder = FOLDER / "prometheus"
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run(
            ["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
