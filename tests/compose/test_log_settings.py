"""Settings that one log has of its own: ``LOG_<LABEL>_<SETTING>``."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.settings import SettingsError, effective, known, load, servers, unseen
from transport.errors import ConfigurationError
from transport.log_name import LogName
from transport.registry import create
from transport.settings import TransportSettings

NO_FILE = Path("/nonexistent/.env")
SERVERS = "LOG_EU_KAFKA_BOOTSTRAP_SERVERS"
EU = {"TRANSPORT": "kafka.eu@32", SERVERS: "eu:9092"}


def _problems(**overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(overrides, env_file=NO_FILE)
    return caught.value.problems


def test_a_log_with_a_label_reads_its_own_settings_over_the_others():
    settings = load(
        {**EU, "KAFKA_TOPIC": "all", "KAFKA_TIMEOUT_MS": "700", "LOG_EU_KAFKA_TIMEOUT_MS": "900"},
        env_file=NO_FILE,
    ).transport
    own, base = (settings.of(LogName.parse(name)) for name in ("kafka.eu@32", "kafka"))
    assert (own.kafka_bootstrap_servers, own.kafka_timeout_ms) == ("eu:9092", 900)
    assert (base.kafka_bootstrap_servers, base.kafka_timeout_ms) == ("localhost:9092", 700)
    assert own.kafka_topic == base.kafka_topic == "all"
    log = create("kafka.eu@32", settings)
    assert (log.name, log.partitions, log.location.address) == ("kafka.eu@32", 32, "eu")
    assert log.location.messages == "all.32", "a label is in no name at the server"


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / ".env"
    file.write_text(f"TRANSPORT=kafka.eu\n{SERVERS}=filed:1\nLOG_EU_KAFKA_SASL_PASSWORD=hunter2\n")
    monkeypatch.setenv(SERVERS, "named:1")
    monkeypatch.setenv("LOG_EU_KAFKA_TOPIC", "")
    settings = load(env_file=file)
    shown = {row.name: (row.value, row.source) for row in effective(settings, env_file=file)}
    assert shown[SERVERS] == ("named:1", "environment")
    assert shown["LOG_EU_KAFKA_SASL_PASSWORD"] == ("***", str(file)), "masked"
    assert "LOG_EU_KAFKA_TOPIC" not in shown, "empty counts as unset"
    assert servers(load(EU, env_file=NO_FILE), EU).startswith("kafka.eu@32 eu:9092, ")


def test_commands_in_another_terminal_are_told_of_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SERVERS, "eu:9092")
    assert SERVERS in known()
    assert unseen({})[SERVERS] == "eu:9092"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"LOG_EU_KAFKA_TOPPIC": "hunter2"},
            (
                "LOG_EU_KAFKA_TOPPIC is not a setting that a log can have of its own; did you mean "
                "LOG_EU_KAFKA_TOPIC?"
            ),
        ),
        (
            {"LOG_EU_TRANSPORT": "redis"},
            "LOG_EU_TRANSPORT is not a setting that a log can have of its own; unset it",
        ),
        (
            {"LOG_EU_STREAM_PARTITIONS": "32"},
            (
                "LOG_EU_STREAM_PARTITIONS can't be set; write the number in the log's name "
                "(kafka.eu@32)"
            ),
        ),
        (
            {"LOG_UE_KAFKA_SASL_PASSWORD": "hunter2"},
            (
                "LOG_UE_KAFKA_SASL_PASSWORD is for logs with the label ue, and no log that is "
                "named here has it; correct or unset it, or name the log in OTHER_LOGS (kafka.ue)"
            ),
        ),
        (
            {"LOG_EU_KAFKA_TIMEOUT_MS": "soon"},
            "LOG_EU_KAFKA_TIMEOUT_MS='soon' can't be used: give a whole number from 500 to 120000",
        ),
        (
            {"LOG_EU_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "LOG_EU_KAFKA_SASL_PASSWORD": "hunter2"},
            (
                "LOG_EU_KAFKA_SECURITY_PROTOCOL=SASL_SSL needs KAFKA_SASL_MECHANISM, "
                "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            ),
        ),
        (
            {"TRANSPORT": "kafka.us@32"},
            (
                "kafka.us@32 is to have settings of its own, and there is none: set "
                "LOG_US_KAFKA_BOOTSTRAP_SERVERS, or leave the label out"
            ),
        ),
        (
            {"TRANSPORT_SHADOW": "kafka@32", SERVERS: "localhost:9092"},
            (
                "TRANSPORT_SHADOW=kafka@32 is kafka.eu@32 under another name: both are at "
                "localhost:9092; name one log, or set the other server's address"
            ),
        ),
    ],
)
def test_what_sets_nothing_is_one_line_that_names_the_remedy(given, line):
    problems = _problems(**{**EU, **given})
    assert line in problems
    assert "hunter2" not in "\n".join(problems)


def test_settings_may_be_there_before_a_migration_and_after_it():
    logs = {"OTHER_LOGS": "redis@32, kafka.eu@32", "STREAM_PARTITIONS": 8}
    assert _problems(**{SERVERS: "eu:9092"})
    settings = load({**logs, SERVERS: "eu:9092"}, env_file=NO_FILE).transport
    assert settings.logs == {"redis"}
    assert create("kafka.eu@32", settings).location.address == "eu"
    with pytest.raises(ConfigurationError, match="LOG_US_REDIS_HOST"):
        create("redis.us", settings)


def test_variables_of_another_program_are_left_alone():
    load({"LOG_FILE_PATH": "/var/log/x", "LOG_DIR": "/var/log"}, env_file=NO_FILE)


def test_a_label_of_a_third_kind_is_told_no_setting_of_another():
    with pytest.raises(ConfigurationError, match="there is none: leave the label out"):
        TransportSettings().of(LogName("mylog", "eu"))
