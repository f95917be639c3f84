"""``REDIS_URL``: what it may say, what it goes together with, and what of it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.settings import SettingsError, effective, load, servers
from transport.log_name import LogName
from transport.redis_url import RedisUrl, masked_url

NO_FILE = Path("/nonexistent/.env")


def _redis(log: str = "redis", **overrides: object) -> RedisUrl:
    return load(overrides, env_file=NO_FILE).transport.of(LogName.parse(log)).redis


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis://h", RedisUrl((("h", 6379),), database=1)),
        ("redis://h:7/3", RedisUrl((("h", 7),), database=3)),
        ("redis://a,b:7/0", RedisUrl((("a", 6379), ("b", 7)), database=0)),
        (
            "rediss://u:p%40ss@h:7/0",
            RedisUrl((("h", 7),), tls=True, database=0, username="u", password="p@ss"),
        ),
        ("redis://:word@[::1]:7", RedisUrl((("::1", 7),), database=1, password="word")),
        (
            "redis+sentinel://a,b:5/name",
            RedisUrl((("a", 26379), ("b", 5)), master="name", database=1),
        ),
        (
            "rediss+sentinel://u:p@a/name/2",
            RedisUrl(
                (("a", 26379),), tls=True, master="name", database=2, username="u", password="p"
            ),
        ),
    ],
)
def test_each_part_is_read_and_what_is_left_out_is_as_its_own_setting_says(
    url: str, parts: RedisUrl
) -> None:
    assert _redis(REDIS_URL=url) == parts


def test_user_and_password_may_stand_apart_from_the_address() -> None:
    redis = _redis(REDIS_URL="redis://h", REDIS_USERNAME="u", REDIS_PASSWORD="p")
    assert (redis.username, redis.password) == ("u", "p")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://h", "redis://host"),
        ("redis://", "redis://host"),
        ("redis://a:hunter2@b@c", "encode"),
        ("redis://h?ssl_cert_reqs=none", "redis://host"),
        ("redis://h:99999", "port"),
        ("redis://h/one", "database"),
        ("redis+sentinel://a", "name the primary"),
        ("redis+sentinel://a/name/x", "database"),
    ],
)
def test_what_is_no_url_of_ours_is_refused_without_being_shown(url: str, words: str) -> None:
    with pytest.raises(SettingsError) as told:
        load({"REDIS_URL": url}, env_file=NO_FILE)
    (problem,) = told.value.problems
    assert problem.startswith("REDIS_URL='***' can't be used: ")
    assert words in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"REDIS_HOST": "x"}, "REDIS_URL says what REDIS_HOST says: unset one of them"),
        ({"REDIS_PASSWORD": "x"}, "REDIS_URL says what REDIS_PASSWORD says: unset one of them"),
        ({"REDIS_STREAM_DB": "4"}, "REDIS_URL says what REDIS_STREAM_DB says: unset one of them"),
        (
            {"REDIS_TLS_CA_FILE": "/ca.pem"},
            (
                "REDIS_TLS_CA_FILE is for TLS, which is off: set REDIS_TLS=true or a REDIS_URL "
                "that begins with rediss, or unset it"
            ),
        ),
    ],
)
def test_what_is_said_twice_or_to_no_end_is_refused(given: dict[str, str], line: str) -> None:
    with pytest.raises(SettingsError) as told:
        load({"REDIS_URL": "redis://u:p@h/3", **given}, env_file=NO_FILE)
    assert told.value.problems == [line]


def test_a_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(SettingsError, match="REDIS_TLS_KEY_FILE needs REDIS_TLS_CERT_FILE"):
        load({"REDIS_TLS": "true", "REDIS_TLS_KEY_FILE": "/key.pem"}, env_file=NO_FILE)


def test_a_log_with_a_label_has_a_url_or_an_address_of_its_own() -> None:
    given = {"REDIS_URL": "redis://h", "OTHER_LOGS": "redis.b"}
    assert _redis("redis.b", **given, LOG_B_REDIS_URL="redis://b:9").servers == (("b", 9),)
    assert _redis("redis.b", **given, LOG_B_REDIS_HOST="b").servers == (("b", 6379),)
    host = {"REDIS_HOST": "h", "OTHER_LOGS": "redis.b"}
    assert _redis("redis.b", **host, LOG_B_REDIS_URL="redis://b:9").servers == (("b", 9),)
    with pytest.raises(SettingsError, match="LOG_B_REDIS_URL says what LOG_B_REDIS_PORT says"):
        _redis("redis.b", **given, LOG_B_REDIS_URL="redis://b:9", LOG_B_REDIS_PORT=7)


def test_two_names_of_one_server_are_refused_whichever_way_it_is_named() -> None:
    given = {"TRANSPORT_SHADOW": "redis.b", "REDIS_HOST": "h"}
    with pytest.raises(SettingsError, match="redis under another name"):
        load({**given, "LOG_B_REDIS_URL": "redis://h:6379/1"}, env_file=NO_FILE)


def test_it_is_shown_without_its_password() -> None:
    url = "redis+sentinel://u:hunter2@a,b:5/name/2"
    given = {"REDIS_URL": url}
    settings = load(given, env_file=NO_FILE)
    shown = {row.name: row.value for row in effective(settings, given, env_file=NO_FILE)}
    assert shown["REDIS_URL"] == "redis+sentinel://u:***@a,b:5/name/2"
    assert servers(settings, given).startswith("redis redis+sentinel://u:***@a,b:5/name/2, ")
    assert "hunter2" not in f"{settings!r} {settings.transport.redis!r}"
    assert masked_url("redis://a:hunter2@b@c") == "***"
