"""What ``crossfade up`` says of its logs: to people in its panel, to commands in its settings."""

from __future__ import annotations

import pytest

from compose.commands.up.panel import part
from compose.local.stack import Stack
from compose.settings import load
from tests.support.phases import CHOICES


@pytest.mark.parametrize(
    ("phase", "redis", "kafka"),
    [
        (0, ("Log", ""), None),
        (1, ("Log", "written first, read by workers"), ("Shadow", "async")),
        (3, ("Log", "written first"), ("Shadow", "sync, read by workers")),
        (4, ("Shadow", "sync"), ("Log", "written first, read by workers")),
        (5, ("Left log", "nothing new comes"), ("Log", "")),
    ],
)
def test_each_log_is_named_by_its_part(phase, redis, kafka):
    settings = load({k: v for k, v in CHOICES[phase].environment().items() if v})
    assert part(settings, "redis") == redis
    if kafka:
        assert part(settings, "kafka") == kafka


def test_kafka_that_is_yet_to_be_fetched_is_announced(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert any("fetches Kafka" in note for note in Stack(tmp_path / "a", {"kafka"}).notes)
    assert not any("fetches Kafka" in note for note in Stack(tmp_path / "b", {"redis"}).notes)
    assert not (tmp_path / "cache").exists(), "nothing is fetched by asking"


def test_a_log_that_is_not_run_is_not_looked_for_where_another_service_may_have_its_own(tmp_path):
    redis = Stack(tmp_path / "a", {"redis"}).settings()
    assert redis["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:1"
    assert redis["REDIS_PORT"] != "1"
    kafka = Stack(tmp_path / "b", {"kafka"}).settings()
    assert kafka["REDIS_PORT"] == "1"
    assert kafka["KAFKA_BOOTSTRAP_SERVERS"] != "127.0.0.1:1"


def test_payloads_are_in_a_folder_or_in_an_s3_server_and_stay_where_the_first_ones_are(tmp_path):
    folder = Stack(tmp_path / "a", {"redis"})
    assert folder.s3 is None
    assert folder.settings()["PAYLOAD_STORE"] == f"file://{tmp_path}/a/payloads"
    assert load(folder.settings()).payloads.payload_fallback_store is None
    (tmp_path / "a" / "payloads" / "1").mkdir(parents=True)
    moving = Stack(tmp_path / "a", {"redis"}, s3=True)
    assert moving.settings()["PAYLOAD_STORE"] == "s3://crossfade/payloads"
    assert moving.settings()["PAYLOAD_FALLBACK_STORE"] == f"file://{tmp_path}/a/payloads"
    assert "crossfade payloads copy" in " ".join(moving.notes)

    server = Stack(tmp_path / "b", {"redis"}, s3=True).s3
    assert server is not None
    (tmp_path / "b" / "seaweedfs").mkdir(parents=True)
    again = Stack(tmp_path / "b", {"redis"})
    assert again.s3 is not None
    assert again.settings()["PAYLOAD_STORE"] == "s3://crossfade/payloads"
    assert load(again.settings()).payloads.payload_fallback_store is None
    assert again.s3.secret_key != server.secret_key, "made for each run"
