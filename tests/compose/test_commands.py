"""The smaller commands, as a user types them."""

from __future__ import annotations

import json
import re
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from compose.local.ports import free_port
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from transport.contract import WORKER_GROUP, Topic
from transport.registry import create
from transport.settings import TransportSettings


@pytest_asyncio.fixture
async def log(new_redis) -> dict[str, str]:
    """Settings for a Redis of the test's own."""
    redis = await new_redis()
    return {"REDIS_HOST": redis.host, "REDIS_PORT": str(redis.port)}


async def test_a_new_key_goes_to_the_file_and_is_shown_once(crossfade, tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("# ours", encoding="utf-8")  # no line end: the entry must not join the line
    made = await crossfade("keys", "new", "alice", "--scope", "produce", "--file", str(file))
    assert await made.ends() == 0
    (secret,) = re.findall(r"^cf_[A-Za-z0-9_-]{43}$", made.text, re.MULTILINE)
    digest = sha256(secret.encode()).hexdigest()
    assert file.read_text("utf-8") == f"# ours\nalice:produce:{digest}\n"

    listed = await crossfade("keys", "list", API_KEYS_FILE=str(file))
    assert await listed.ends() == 0
    assert re.search(rf"alice +produce +any +any +{digest[:12]}", listed.text)
    assert digest not in listed.text


async def test_a_key_for_some_senders_and_conversations(crossfade, tmp_path: Path):
    file = tmp_path / "keys"
    given = ("--sender-prefix", "a:b, c", "--conversation-prefix", "t/\u00e4")
    made = await crossfade("keys", "new", "alice", *given, "--file", str(file))
    assert await made.ends() == 0
    (secret,) = re.findall(r"^cf_[A-Za-z0-9_-]{43}$", made.text, re.MULTILINE)
    digest = sha256(secret.encode()).hexdigest()
    limits = "sender=a%3Ab%2C%20c:conversation=t/%C3%A4"
    assert file.read_text("utf-8") == f"alice:produce+read:{digest}:{limits}\n"
    listed = await crossfade("keys", "list", API_KEYS_FILE=str(file))
    assert await listed.ends() == 0
    assert re.search(r"alice +produce\+read +'a:b, c' +'t/\u00e4' ", listed.text)
    refused = await crossfade("keys", "new", "ops", "--scope", "admin", "--sender-prefix", "a")
    assert await refused.ends() == 1
    assert "leave out one of the two" in refused.text


async def test_a_name_that_an_entry_cannot_hold_is_refused(crossfade):
    made = await crossfade("keys", "new", "al:ice")
    assert await made.ends() == 1
    assert "can't be a key's name" in made.text
    assert "cf_" not in made.text


async def test_settings_shows_values_and_sources_and_no_secret(crossfade):
    shown = await crossfade("settings", "--json", REDIS_PASSWORD="hunter2", STREAM_PARTITIONS="8")
    assert await shown.ends() == 0
    rows = {row["name"]: row for row in json.loads(shown.text)}
    assert rows["STREAM_PARTITIONS"] == {
        "name": "STREAM_PARTITIONS", "value": "8", "source": "environment",
    }  # fmt: skip
    assert rows["REDIS_PASSWORD"]["value"] == "***"
    assert rows["PORT"]["source"] == "default"
    assert "hunter2" not in shown.text


async def test_a_schema_of_a_newer_version_stays_as_it_is(tmp_path, database_url, database_pool):
    """Someone goes back to this version. A deployment runs ``db upgrade`` before each start."""
    await database_pool.execute("UPDATE alembic_version SET version_num = '9999'")
    crossfade = partial(Crossfade.fork, cwd=tmp_path, DATABASE_URL=database_url)
    up = await crossfade("db", "upgrade")
    assert await up.ends() == 0
    assert "at 9999, of a newer version" in up.text
    for how in ("--dry-run", "--yes"):
        down = await crossfade("db", "downgrade", "0026", how)
        assert await down.ends() == 2
        assert "use the version that made it" in " ".join(down.lines)
    assert await database_pool.fetchval("SELECT version_num FROM alembic_version") == "9999"


async def test_the_schema_goes_up_says_where_it_stands_and_goes_down(tmp_path, postgres_server):
    url = await postgres_server.create_database("schema")
    crossfade = partial(Crossfade.fork, cwd=tmp_path, DATABASE_URL=url)
    try:
        before = await crossfade("db", "current")
        assert await before.ends() == 1
        assert "never migrated" in before.text
        assert await (await crossfade("db", "upgrade")).ends() == 0
        assert await (await crossfade("db", "current")).ends() == 0
        unknown = await crossfade("db", "upgrade", "9999")
        assert await unknown.ends() == 2
        assert "give base, head or one of 0001" in unknown.text
        preview = ("--dry-run", "--json", "--", "-2")
        for revision, error in (("--json", "no revision"), ("+99", "can't be taken there")):
            wrong = await crossfade("db", "upgrade", "--", revision)
            assert (await wrong.ends(), error in wrong.text) == (2, True)

        would = await crossfade("db", "downgrade", *preview)
        assert await would.ends() == 0
        undone = [migration["revision"] for migration in json.loads(would.text)["wouldUndo"]]
        assert len(undone) == 2
        assert undone == sorted(undone, reverse=True)
        to_first = await crossfade("db", "downgrade", "0001", "--dry-run")
        assert await to_first.ends() == 0
        assert undone[0] in to_first.text
        assert "0001" not in to_first.text  # it stays
        asked = await crossfade("db", "downgrade", "base")
        assert await asked.ends() == 1  # nobody there to say yes
        assert await (await crossfade("db", "current")).ends() == 0
        down = await crossfade("db", "downgrade", "base", "--yes")
        assert await down.ends() == 0
        assert "empty database" in down.text
    finally:
        await postgres_server.drop_database("schema")


async def test_status_counts_what_waits_and_knows_no_owner_without_postgresql(crossfade, log):
    settings = TransportSettings(redis_host=log["REDIS_HOST"], redis_port=int(log["REDIS_PORT"]))
    async with create("redis", settings) as transport:
        await _append(transport, partition=7, count=3)
    shown = await crossfade("status", **log)
    assert await shown.ends() == 1, "PostgreSQL is not there, which is an alarm"
    assert re.search(r"^ *7 +3 +\d+\.\d s +unknown", shown.text, re.MULTILINE)
    assert re.search(r"^ *0 +0 +0\.0 s +unknown", shown.text, re.MULTILINE)
    assert "lag 3 in all" in shown.text


async def test_status_says_unknown_where_the_log_does_not_know(crossfade, log):
    settings = TransportSettings(redis_host=log["REDIS_HOST"], redis_port=int(log["REDIS_PORT"]))
    async with create("redis", settings) as transport:
        await _append(transport, partition=7, count=3)
        async with Redis(port=int(log["REDIS_PORT"]), db=1) as client:
            # What makes Redis forget its count: a deletion ahead of the group (engine facts).
            (_, second, _) = await client.xrange("msg:stream:7")
            await client.xdel("msg:stream:7", second[0])
        progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    shown = await crossfade("status", "--json", **log)
    assert await shown.ends() == 1, "PostgreSQL is not there, which is an alarm"
    seventh = json.loads(shown.text)["partitions"][7]
    assert seventh["lag"] == progress[7].lag
    table = await crossfade("status", **log)
    await table.ends()
    known = "unknown" if progress[7].lag is None else str(progress[7].lag)
    assert re.search(rf"^ *7 +{known} ", table.text, re.MULTILINE)


async def test_a_log_that_is_down_is_an_alarm_with_its_remedy(crossfade):
    shown = await crossfade("status", REDIS_HOST="127.0.0.1", REDIS_PORT="1")
    assert await shown.ends() == 1
    assert "note: no 'crossfade up' runs in " in shown.text
    (alarm,) = [line for line in shown.lines if "The log redis can't be used" in line]
    assert alarm.startswith("alarm ")
    assert "answered 503" in shown.text
    assert "Start the redis server again" in shown.text
    (error,) = [line for line in shown.lines if line.startswith("error: ")]
    assert "Redis can't be reached" in error
    assert "127.0.0.1:1" in error


@pytest.mark.parametrize("wrong", ["redis.eu", "redis"])
async def test_a_log_with_a_wrong_setting_hides_nothing_else(
    crossfade, log, new_redis, database_url, wrong
):
    other = await new_redis()
    eu = {"LOG_EU_REDIS_HOST": other.host, "LOG_EU_REDIS_PORT": str(other.port)}
    places = {**log, **eu, "TRANSPORT_SHADOW": "redis.eu", "DATABASE_URL": database_url}
    host, port = log["REDIS_HOST"], int(log["REDIS_PORT"])
    async with create("redis", TransportSettings(redis_host=host, redis_port=port)):
        pass  # it makes the log
    altered = (host, port) if wrong == "redis" else (other.host, int(other.port))
    async with Redis(host=altered[0], port=altered[1]) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await client.config_set("maxmemory", 10**9)
    shown = await crossfade("status", **places)
    is_shadow = wrong == "redis.eu"
    assert await shown.ends() == (0 if is_shadow else 1), "a shadow in async mode is no alarm"
    (line,) = [line for line in shown.lines if f"The log {wrong} can't be used" in line]
    assert "maxmemory-policy" in line
    assert ("redis: 16 partitions, group persistence-workers" in shown.text) == is_shadow


async def test_an_altered_log_that_workers_read_is_not_called_down(crossfade, log, database_url):
    """A command can't open it. Processes that run go on, and POSTs are accepted."""
    places = {**log, "DATABASE_URL": database_url, "STREAM_PARTITIONS": "1"}
    working = await crossfade("worker", **places, METRICS_PORT=str(free_port()))
    await working.says("Worker started for partition 0")
    async with Redis(host=log["REDIS_HOST"], port=int(log["REDIS_PORT"])) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await client.config_set("maxmemory", 10**9)

    async def told() -> bool:
        shown = await crossfade("status", **places)
        assert await shown.ends() == 1
        assert "maxmemory-policy" in shown.text
        reads_on = "Processes that run read it all the same" in shown.text
        assert reads_on != ("POSTs are answered 503" in shown.text)
        return reads_on  # once the worker has reported that it owns the partition

    await eventually(told)


async def _append(transport, *, partition: int, count: int) -> None:
    from transport.contract import Envelope  # noqa: PLC0415

    envelopes = [
        Envelope(f"0000000{n}-0000-8000-8000-000000000000", partition, "c", b"{}", {})
        for n in range(count)
    ]
    await transport.publish(envelopes, remember=False)


@pytest.mark.parametrize(("typed", "listed"), [((), "doctor"), (("dlq",), "redrive")])
async def test_without_a_command_the_commands_are_listed(typed_crossfade, typed, listed):
    shown = await typed_crossfade(*typed)
    assert await shown.ends() == 2
    assert shown.lines[0] == f"Usage: {' '.join(['crossfade', *typed])} [OPTIONS] COMMAND [ARGS]..."
    assert any(line.split()[:1] == [listed] for line in shown.lines)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("jobs watch 5", "value for 'ID': give a whole id, such as 28058b17-"),
        ("conversation c --after x", "value for '--after': give a whole id, such as 28058b17-"),
        ("keys new shop --scope x", "'--scope': 'x' is not one of 'produce', 'read', 'admin'."),
        ("completion", "Choose from: bash, zsh, fish"),
        ("dlq list --newer-than x", "value for --newer-than: 'x' is not an age; write 90s, 15m"),
        ("dlq list --state x", "value for --state: 'x' is none of pending, redriven, discarded"),
        ("migrate advance --why x --overrule start=x", "value for --overrule: 'start' is no gate"),
    ],
)
async def test_a_value_that_cannot_be_is_told_with_its_option_and_the_values_that_can(
    crossfade, typed, told
):
    refused = await crossfade(*typed.split(), DATABASE_URL="postgresql://x@127.0.0.1:1/x")
    assert await refused.ends() == 2
    assert told in refused.text


@pytest.mark.parametrize(
    "typed",
    [("audit",), ("migrate", "check"), ("migrate", "parity", "--shadow", "redis@32")],
    ids=" ".join,
)
async def test_a_check_that_reaches_no_server_has_found_nothing_wrong(crossfade, typed):
    nowhere = {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "REDIS_PORT": "1"}
    asked = await crossfade(*typed, **nowhere)
    assert await asked.ends() == 3
    assert "can't be reached: check" in asked.text


async def test_a_shell_that_asks_gets_the_commands_that_begin_so(typed_crossfade):
    """With the variables that the script of ``crossfade completion bash`` sets."""
    asked = {"_CROSSFADE_COMPLETE": "complete_bash", "COMP_WORDS": "crossfade sta"}
    shown = await typed_crossfade(**asked, COMP_CWORD="1")
    assert await shown.ends() == 0
    assert shown.lines == ["status"]
