"""What a bad setting says, and where a good one comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.settings import SettingsError, effective, load, misspelt
from transport.registry import create

NO_FILE = Path("/nonexistent/.env")


def _problems(**overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(overrides, env_file=NO_FILE)
    return caught.value.problems


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("STREAM_PARTITIONS", "many", "give a whole number from 1 to 4096"),
        ("STREAM_PARTITIONS", "0", "give a whole number from 1 to 4096"),
        ("KAFKA_MIN_INSYNC_REPLICAS", "0", "give a whole number from 1 up"),
        ("DATABASE_TIMEOUT_SECONDS", "-1", "give a number above 0 to 3600"),
        ("ENABLE_STREAM_CONSUMERS", "perhaps", "give true or false"),
        ("INGRESS_MODE", "slow", "give one of queue, direct"),
        ("TRANSPORT", "kafca", "choose one of"),
        ("CONSUME_FROM", "carrier-pigeon", "choose one of"),
        ("DATABASE_URL", "mysql://me@db/x", "must start with postgresql://"),
        ("REDIS_HOST", '"redis"', "no quotes"),
        ("REDIS_HOST", "redis://redis", "no scheme"),
        ("REDIS_HOST", "redis:6379", "no port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "'one:9092'", "no quotes"),
        ("KAFKA_BOOTSTRAP_SERVERS", "SASL_SSL://one:9092", "no scheme"),
        ("KAFKA_BOOTSTRAP_SERVERS", "one:9092,two:port", "host:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", "one:99999", "host:9092"),
        ("KAFKA_BOOTSTRAP_SERVERS", " , ", "host:9092"),
        ("KAFKA_TOPIC", "our messages", "'.', '_' and '-'"),
        ("KAFKA_DLQ_TOPIC", "msg.stream", "is also KAFKA_TOPIC"),
        ("KAFKA_MIN_INSYNC_REPLICAS", "2", "more than KAFKA_REPLICATION_FACTOR=1"),
        ("METRICS_PORT", "3000", "is also PORT"),
        ("HOST", "0.0.0.0", "API_KEYS_WAIVED"),
        ("API_KEYS", "the-key-itself", "never the key itself"),
    ],
)
def test_one_line_names_the_variable_and_the_remedy(variable: str, value: str, says: str):
    (line,) = _problems(**{variable: value})
    assert line.startswith(variable)
    assert says in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("given", "taken"),
    [("one", "one"), ("one.two_three-4", "one.two_three-4"), ("::1", "::1"), ("[::1]\r\n", "::1")],
)
def test_a_host_of_redis_is_a_name_or_an_address(given: str, taken: str) -> None:
    assert load({"REDIS_HOST": given}, env_file=NO_FILE).transport.redis_host == taken


def test_servers_of_kafka_may_have_spaces_between_them_and_no_port() -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "one:9092, two ,[::1]:9093,\r\n"}
    taken = load(given, env_file=NO_FILE).transport.kafka_bootstrap_servers
    assert taken == "one:9092,two,[::1]:9093"


def test_every_bad_setting_is_named_at_once():
    lines = _problems(STREAM_PARTITIONS="x", PORT="99999", LOG_LEVEL="loud")
    assert [line.partition("=")[0] for line in lines] == ["STREAM_PARTITIONS", "PORT", "LOG_LEVEL"]


def test_a_secret_is_masked_in_the_complaint():
    (line,) = _problems(DATABASE_URL="mysql://me:hunter2@db/x")
    assert "hunter2" not in line
    assert "***" in line


@pytest.mark.parametrize(
    "variables",
    [
        {"PAYLOAD_STORE": "s3://AKIA1:hunter2/x@bucket/p"},
        {"PAYLOAD_STORE": "s3://hunter2@bucket"},
        {"PAYLOAD_STORE": "s3://bucket/p?AWS_SECRET_ACCESS_KEY=hunter2"},
        {"PAYLOAD_STORE": "r2://me:hunter2@bucket"},
        {"PAYLOAD_STORE": "me:hunter2@bucket"},
        {"PAYLOAD_STORE": "s3://b", "PAYLOAD_ENDPOINT_URL": "http://me:hunter2@host"},
        {"PAYLOAD_STORE": "s3://b", "PAYLOAD_ENDPOINT_URL": "https://host/?key=hunter2"},
    ],
)
def test_a_key_in_the_address_of_a_store_is_refused_and_not_told(variables):
    (line,) = _problems(**variables)
    assert "hunter2" not in line
    assert "AWS_SECRET_ACCESS_KEY" in line or "must start with" in line


def test_too_few_connections_for_the_partitions_are_noticed():
    (line,) = _problems(STREAM_PARTITIONS=100)
    assert "REDIS_POOL_SIZE=64" in line
    assert "108 or more" in line


def test_the_environment_goes_before_the_file_and_empty_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = tmp_path / ".env"
    file.write_text(
        "STREAM_PARTITIONS=8\nREDIS_PORT=7000\n"
        "DATABASE_URL=postgresql://me:hunter2@db:5433/colleging?password=hunter3\n"
    )
    monkeypatch.setenv("REDIS_PORT", "7001")
    monkeypatch.setenv("REDIS_PASSWORD", "")
    settings = load({"PORT": "3001"}, env_file=file)
    rows = {row.name: row for row in effective(settings, {"PORT": "3001"}, env_file=file)}
    assert (rows["STREAM_PARTITIONS"].value, rows["STREAM_PARTITIONS"].source) == ("8", str(file))
    assert (rows["REDIS_PORT"].value, rows["REDIS_PORT"].source) == ("7001", "environment")
    assert (rows["PORT"].value, rows["PORT"].source) == ("3001", "command")
    assert (rows["REDIS_PASSWORD"].value, rows["REDIS_PASSWORD"].source) == ("", "default")
    assert rows["DATABASE_URL"].value == "postgresql://me:***@db:5433/colleging"


@pytest.mark.parametrize("name", ["KAFKA_TOPIC", "kafka_topic", "Kafka_Topic"])
@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_lone_setting_is_found_in_either_source_in_any_case(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, source: str
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"{name}=orders\n" if source == "file" else "")
    if source == "environment":
        monkeypatch.setenv(name, "orders")
    assert load(env_file=file).transport.kafka_topic == "orders"


def test_an_address_of_ipv6_is_shown_as_it_is_written() -> None:
    given = {"DATABASE_URL": "postgresql://me:hunter2@[::1]:5433/x"}
    rows = effective(load(given, env_file=NO_FILE), given, env_file=NO_FILE)
    (shown,) = [row.value for row in rows if row.name == "DATABASE_URL"]
    assert shown == "postgresql://me:***@[::1]:5433/x"


def test_a_misspelt_variable_is_pointed_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STREAM_PARTITION", "8")
    monkeypatch.setenv("REDIS_URL", "redis://somebody.elses")
    assert misspelt() == [
        "STREAM_PARTITION is not a setting and does nothing; did you mean STREAM_PARTITIONS?"
    ]


NO_SHADOW = (
    "TRANSPORT_SHADOW_MODE=sync says how to write to a shadow, and there is none; name one in "
    "TRANSPORT_SHADOW, or unset the mode"
)
ITSELF = (
    "TRANSPORT_SHADOW='redis' is also TRANSPORT; name another log, or unset it to write to one "
    "log only"
)
UNKNOWN = (
    "TRANSPORT_SHADOW='pigeon' is not a transport; choose one of kafka, memory, redis, or install "
    "the package that registers it"
)
NO_NAME = (
    "TRANSPORT_SHADOW='redis@016' is not the name of a log; write a transport, then a label if the "
    "log has settings of its own, then its number of partitions if that is not STREAM_PARTITIONS: "
    "redis, redis@32, kafka.eu@32 (a label is of up to 16 of a-z and 0-9, a number of partitions "
    "from 1 to 4096)"
)
NO_MODE = "TRANSPORT_SHADOW_MODE='both' can't be used: give one of async, sync"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"TRANSPORT_SHADOW": "redis"}, ITSELF),
        ({"TRANSPORT_SHADOW": "pigeon"}, UNKNOWN),
        ({"TRANSPORT_SHADOW": "redis@016"}, NO_NAME),
        (
            {"TRANSPORT": "redis@16", "TRANSPORT_SHADOW": "redis@16"},
            ITSELF.replace("redis", "redis@16"),
        ),
        ({"TRANSPORT_SHADOW_MODE": "sync"}, NO_SHADOW),
        ({"TRANSPORT_SHADOW": "kafka", "TRANSPORT_SHADOW_MODE": "both"}, NO_MODE),
    ],
)
def test_a_shadow_that_can_not_work_is_one_line(given, line):
    assert _problems(**given) == [line]


def test_a_log_without_a_number_has_stream_partitions_and_another_name():
    settings = load(
        {"STREAM_PARTITIONS": 8, "TRANSPORT": "redis", "TRANSPORT_SHADOW": "redis@8"},
        env_file=NO_FILE,
    )
    logs = [create(name, settings.transport) for name in ("redis", "redis@8", "redis@12")]
    assert [log.partitions for log in logs] == [8, 8, 12]
    assert [log.location.messages for log in logs] == [
        "msg:stream",
        "msg:stream@8",
        "msg:stream@12",
    ]


@pytest.mark.parametrize("shadow", ["kafka", "redis@32", "kafka@32"])
def test_a_shadow_that_can_work_is_taken(shadow):
    settings = load({"TRANSPORT_SHADOW": shadow, "TRANSPORT_SHADOW_MODE": "sync"}, env_file=NO_FILE)
    assert settings.transport.transport_shadow == shadow
    assert settings.transport.transport_shadow_mode == "sync"
