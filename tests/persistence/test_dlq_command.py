"""``crossfade dlq`` and ``crossfade audit``, as an operator types them."""

from __future__ import annotations

import json
import re
import signal

import httpx
import pytest

from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.rows import insert
from persistence.operator_actions import Actions
from persistence.tables.states import JobState
from tests.persistence.loglib import append, contents, lag
from tests.persistence.samples import message, raw_record, record
from tests.support.crossfade import Crossfade
from tests.support.fault_proxy import FaultProxy
from transport.clock import now
from transport.contract import DeadLetter, Reason, Record, Topic
from transport.message.dead_letters import dead_letter_headers


@pytest.fixture
async def crossfade(tmp_path, transport_settings, database_url, transport):
    """Run ``crossfade ARGUMENTS`` on the test's log and database to its end."""
    started: list[Crossfade] = []
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_HOST": transport_settings.redis_host,
        "REDIS_PORT": str(transport_settings.redis_port),
        "REDIS_STREAM_DB": str(transport_settings.redis_stream_db),
        "STREAM_PARTITIONS": str(transport.partitions),
    }

    async def run(*arguments: str, wait: bool = True, **more: str) -> Crossfade:
        command = await Crossfade.fork(*arguments, cwd=tmp_path, **(settings | more))
        started.append(command)
        if wait:
            command.status = await command.ends()
        return command

    yield run
    for process in started:
        await process.kill()


async def _bury(database_pool, *refused: tuple[Record, Reason]) -> None:
    letters = [(r, DeadLetter(r, why, "[e]", 3, now())) for r, why in refused]
    dead = [
        raw_record(r.body, key=r.key, headers=dead_letter_headers(letter)) for r, letter in letters
    ]
    async with database_pool.acquire() as connection:
        await insert(connection, "redis", dead)


@pytest.fixture
async def buried(database_pool):
    """Two letters of conv1, and an undecodable one."""
    await _bury(
        database_pool,
        (record(message("c1", "conv1")), Reason.REJECTED),
        (record(message("c2", "conv1")), Reason.IDEMPOTENCY_CONFLICT),
        (raw_record(b"\xff [bold]garbage[/]", 1, headers={"odd": b"\xfe"}), Reason.UNDECODABLE),
    )
    return [row.id for row in reversed(await DeadLetters(database_pool).list())]


async def test_list_filters_pages_and_prints_json(crossfade, buried):
    listed = await crossfade("dlq", "list")
    assert listed.status == 0
    assert all(reason in listed.text for reason in ("rejected", "undecodable", "[e]"))
    some = await crossfade("dlq", "list", "--conversation", "conv1", "--limit", "1", "--json")
    [row] = json.loads(some.text[: some.text.rindex("]") + 1])
    assert (row["id"], row["reason"]) == (buried[1], "idempotency_conflict")
    assert f"--before {buried[1]}" in some.text
    none = await crossfade("dlq", "list", "--older-than", "2h")
    assert "No dead letters are pending" in none.text
    wrong = await crossfade("dlq", "list", "--older-than", "soon")
    assert wrong.status == 2
    assert "is not an age" in wrong.text


async def test_show_tells_all_and_can_write_the_bytes(crossfade, buried):
    shown = await crossfade("dlq", "show", str(buried[2]))
    assert "undecodable" in shown.text
    assert r"\xff [bold]garbage[/]" in shown.text
    assert re.search(r"header odd +\\xfe", shown.text)
    assert (await crossfade("dlq", "show", "99")).status == 1


async def test_something_has_to_be_chosen_in_one_way(crossfade, buried):
    for arguments in ([], ["1", "--all"], ["--all", "--reason", "rejected"]):
        refused = await crossfade("dlq", "redrive", *arguments)
        assert refused.status == 2
        assert "in one way" in refused.text


async def test_an_id_that_is_none_is_told_and_nothing_is_done(crossfade, buried, database_pool):
    for action in (["redrive"], ["discard", "--why", "x", "--yes"]):
        refused = await crossfade("dlq", *action, str(buried[0]), "999")
        assert refused.status == 1
        assert "there is no dead letter 999" in refused.text
    assert len(await DeadLetters(database_pool).list()) == 3, "all are still pending"
    assert (await crossfade("dlq", "discard", "--why", "x", "--yes", str(buried[0]))).status == 0
    again = await crossfade("dlq", "redrive", str(buried[0]))
    assert (again.status, f"{buried[0]} is discarded already" in again.text) == (1, True)


async def test_redrive_after_a_dry_run(crossfade, buried, transport, database_pool):
    dry = await crossfade("dlq", "redrive", "--conversation", "conv1", "--dry-run")
    assert "would redrive 2" in dry.text
    assert "rejected: 1" in dry.text
    done = await crossfade("dlq", "redrive", "--conversation", "conv1")
    assert done.status == 0
    assert "done: redrove 2 of 2" in done.text
    assert await lag(transport) == 2
    one = await crossfade("dlq", "redrive", str(buried[2]))
    assert "done: redrove 1 of 1" in one.text
    listed = await crossfade("jobs", "list")
    assert listed.text.count("done") == 2
    assert (
        len(re.findall(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} ", listed.text, re.MULTILINE))
        == 2
    )
    assert [row.state for row in await DeadLetters(database_pool).list(state=None)] == [
        "redriven"
    ] * 3


async def test_ctrl_c_leaves_a_redrive_that_resume_finishes(
    crossfade, buried, transport, database_pool, eventually
):
    slow = await crossfade("dlq", "redrive", "--all", "--rate", "1", wait=False)
    identifier = (await slow.says(r"redrive ([0-9a-f-]{36})"))[1]
    await eventually(lambda: lag(transport))
    slow.process.send_signal(signal.SIGINT)
    assert await slow.ends() == 130
    assert f"--resume {identifier}" in slow.text
    state = await database_pool.fetchval("SELECT state FROM jobs")
    assert state == "interrupted"
    resumed = await crossfade("dlq", "redrive", "--resume", identifier)
    assert "done: redrove 3 of 3" in resumed.text
    assert (await crossfade("dlq", "redrive", "--resume", identifier)).status == 1
    pages = [await transport.read(Topic.MESSAGES, p) for p in range(transport.partitions)]
    assert sum(map(len, pages)) == 3


async def test_a_redrive_waits_out_an_outage_of_postgresql(
    crossfade, buried, database_url, transport, eventually
):
    url = httpx.URL(database_url)
    async with FaultProxy(url.host, url.port or 5432) as proxy:
        address = str(url.copy_with(host=proxy.host, port=proxy.port))
        redrive = await crossfade(
            "dlq", "redrive", "--all", "--rate", "1", wait=False, DATABASE_URL=address
        )
        await eventually(lambda: lag(transport))
        before = proxy.connections
        proxy.refuse()
        proxy.reset()
        await eventually(lambda: proxy.connections >= before + 3)  # it asks again and again
        proxy.heal()
        assert await redrive.ends() == 0, redrive.text
    assert "done: redrove 3 of 3" in redrive.text


async def test_another_terminal_watches_and_cancels(
    crossfade, database_pool, transport, eventually
):
    await _bury(database_pool, *((record(message(f"m{n}")), Reason.REJECTED) for n in range(60)))
    slow = await crossfade("dlq", "redrive", "--all", "--rate", "1", wait=False)
    identifier = (await slow.says(r"redrive ([0-9a-f-]{36})"))[1]
    await eventually(lambda: lag(transport))
    cancelled = await crossfade("jobs", "cancel", identifier)
    assert cancelled.status == 0
    assert await slow.ends() == 1
    assert "cancelled: redrove" in slow.text
    watched = await crossfade("jobs", "watch", identifier)
    assert "cancelled: redrove" in watched.text
    assert (await crossfade("jobs", "cancel", identifier)).status == 1


async def test_discard_says_who_and_why(crossfade, buried, database_pool):
    done = await crossfade("dlq", "discard", str(buried[0]), "--why", "spam", "--yes")
    assert "discarded 1" in done.text
    [row] = await DeadLetters(database_pool).list(state="discarded")
    assert row.resolved_why == "spam"
    assert "@" in row.resolved_by


async def test_audit_finds_and_repairs(crossfade, transport, database_pool, start, eventually):
    await append(transport, *(message(f"c{i}", content=f"{i}") for i in range(3)))
    worker = start()
    await eventually(lambda: worker.count("persisted") == 3)
    await worker.stop()
    blind = await crossfade("audit", "--transport", "memory")
    assert blind.status == 2
    assert "no other can look into" in blind.text
    clean = await crossfade("audit")
    assert clean.status == 0
    assert "3 rows; 3 settled records" in clean.text
    await database_pool.execute("DELETE FROM messages WHERE content = '1'")
    found = await crossfade("audit")
    assert found.status == 1
    assert "1 before the position, and neither row nor dead letter" in found.text
    assert message("c1").message_id in found.text
    report = await crossfade("audit", "--json")
    assert json.loads(report.text)["unaccounted"][0]["lacks"] == "row"
    assert await contents(database_pool) == ["0", "2"]
    repaired = await crossfade("audit", "--repair", "--yes")
    assert repaired.status == 0
    assert "1 rows made from the log" in repaired.text
    assert (await crossfade("audit")).status == 0


@pytest.mark.parametrize("state", [JobState.INTERRUPTED, JobState.FAILED])
async def test_a_redrive_that_did_not_end_is_resumed(crossfade, buried, database_pool, state):
    assert (await crossfade("dlq", "redrive", str(buried[0]))).status == 0
    await database_pool.execute("UPDATE dead_letters SET state = 'pending'")
    await database_pool.execute("UPDATE jobs SET state = $1", state)
    listed = await crossfade("jobs", "list")
    assert state in listed.text
    identifier = re.search(r"^([0-9a-f-]{36}) ", listed.text, re.MULTILINE)[1]
    watched = await crossfade("jobs", "watch", identifier)
    assert watched.status == 1
    assert f"crossfade dlq redrive --resume {identifier}" in watched.text
    resumed = await crossfade("dlq", "redrive", "--resume", identifier)
    assert resumed.status == 0
    assert "done: redrove" in resumed.text


async def test_letters_are_grouped_found_by_text_and_acted_on_by_cause(
    crossfade, buried, database_pool
):
    grouped = await crossfade("dlq", "list", "--group")
    assert grouped.status == 0
    assert re.search(r"1 +rejected +\[e\]", grouped.text)
    assert "--cause" in grouped.text
    told = await crossfade("dlq", "list", "--group", "--json", "--limit", "1")
    [group] = json.loads(told.text[: told.text.rindex("]") + 1])
    assert (group["letters"], group["cause"], group["reason"]) == (1, "[e]", "idempotency_conflict")
    assert "more groups" in told.text
    refused = await crossfade("dlq", "list", "--group", "--reason", "rejected")
    assert refused.status == 2
    some = await crossfade("dlq", "list", "--text", "[E]", "--limit", "2", "--json")
    assert [row["id"] for row in json.loads(some.text[: some.text.rindex("]") + 1])] == [
        buried[2], buried[1],
    ]  # fmt: skip
    assert "No dead letters" in (await crossfade("dlq", "list", "--text", "nowhere")).text
    chosen = ("--reason", "rejected", "--cause", "[e]")
    gone = await crossfade("dlq", "discard", "--why", "a test", "--yes", *chosen)
    assert "discarded 1" in gone.text
    [action] = await Actions(database_pool).recent()
    assert (action.action, action.why, action.result) == ("discard", "a test", "1 discarded")
    assert action.target == "dead letters with reason rejected, cause [e]"


async def test_a_killed_repair_is_listed_as_stalled_and_the_next_one_resumes_it(
    crossfade, transport, database_pool, start, eventually
):
    await append(transport, message("c1", content="1"))
    worker = start()
    await eventually(lambda: worker.count("persisted") == 1)
    await worker.stop()
    await database_pool.execute("DELETE FROM messages")
    async with database_pool.acquire() as writer, writer.transaction():
        await writer.execute("LOCK TABLE messages IN ROW EXCLUSIVE MODE")  # the repair waits
        killed = await crossfade("audit", "--repair", "--yes", wait=False)

        async def begun() -> bool:
            return bool(await database_pool.fetchval("SELECT count(*) FROM jobs"))

        await eventually(begun)
        other = await crossfade("audit", "--repair", "--yes")
        assert (other.status, "another repair is running" in other.text) == (1, True)
        await killed.kill()
        listed = await crossfade("jobs", "list", "--json")
        (job,) = json.loads(listed.text)
        assert (job["kind"], job["stalled"], job["resumable"]) == ("repair", True, True)
    repaired = await crossfade("audit", "--repair", "--yes")
    assert "1 rows made from the log" in repaired.text
    (row,) = await database_pool.fetch("SELECT id::text, state, done, counts FROM jobs")
    assert (row["id"], row["state"], row["done"]) == (job["id"], "done", 1)
    assert json.loads(row["counts"])["inserted"] == 1
