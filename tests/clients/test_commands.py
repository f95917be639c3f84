"""``crossfade produce``, ``dev produce``, ``conversation`` and ``tail`` against the service."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from crossfade import AsyncClient, Client, NewMessage, Retry
from lab.load.latencies import Latencies
from lab.sending.load import Conversation
from lab.sending.row_check import check_rows
from tests.support.forked_commands import ForkedCommands, Ran

from .conftest import API_KEY, PRODUCER_KEY, Site


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> ForkedCommands:
    return ForkedCommands(tmp_path_factory.mktemp("commands"))


class Run:
    """Runs commands that know the service and its database."""

    def __init__(self, commands: ForkedCommands, site: Site) -> None:
        given = site.environment.items()
        self._commands = commands
        self._settings = {
            **{name: value for name, value in given if name != "API_KEYS"},
            "CROSSFADE_URL": site.url,
            "CROSSFADE_API_KEY": API_KEY,
        }

    async def __call__(self, *arguments: str, settings: Any = None, **options: Any) -> Ran:
        known = self._settings | (settings or {})
        return await self._commands.run(*arguments, settings=known, **options)


@pytest.fixture
def run(commands: ForkedCommands, site: Site) -> Run:
    return Run(commands, site)


async def test_one_message_is_sent_waited_for_and_repeated(
    run: Run, site: Site, conversation: str
) -> None:
    given = ("produce", "Hello", "--conversation", conversation, "--sender", "ops")
    more = ("--key", "k-1", "--to", "bob", "--content-type", "text/plain")
    first = await run(*given, *more, "--header", "X-Correlation-ID: case-7", "--wait", "--json")
    assert first.status == 0, first
    told = json.loads(first.output)
    assert (told["state"], told["clientMessageId"], told["correlationId"]) == (
        "persisted", "k-1", "case-7",
    )  # fmt: skip
    assert told["positions"][0]["transport"] == "redis"
    assert told["persistedAt"] > told["acceptedAt"]
    again, other = await asyncio.gather(
        run(*given, *more), run("produce", "Other", *given[2:], "--key", "k-1")
    )
    assert again.status == 0, again
    assert again.output.decode() == f"{told['messageId']}\n"  # for $(...)
    assert re.match(b"accepted before .* by http", again.errors)
    assert other.status == 1
    assert b"another body" in other.errors
    assert b"Give a new message" in other.errors
    assert await site.rows(conversation, 1) == ["Hello"]


async def test_a_message_is_read_from_a_file_or_from_standard_input(
    run: Run, site: Site, conversation: str, tmp_path: Path
) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"a": 1}\n')
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    to = ("produce", "--conversation", conversation, "--wait")
    typed = await run(*to, "--file", "-", terminal=True, answer=b"typed\n\x04")
    assert typed.status == 0, typed
    from_file, both, no_text, absent, nothing = await asyncio.gather(
        run(*to, "--file", str(file)),
        run(*to, "x", "--file", str(file)),
        run(*to, "--file", str(tmp_path / "bytes")),
        run(*to, "--file", str(tmp_path / "nothing")),
        run(*to, terminal=True),
    )
    assert from_file.status == 0, from_file
    assert (both.status, no_text.status, absent.status, nothing.status) == (2, 1, 1, 2)
    assert b"not UTF-8" in no_text.errors
    assert b"can't be read" in absent.errors
    assert b"standard input" in nothing.output
    assert await site.rows(conversation, 2) == ["typed", '{"a": 1}\n']


async def test_what_stands_in_the_way_is_one_line_with_its_remedy(run: Run) -> None:
    given = ("produce", "x", "--conversation", "c", "--timeout", "0.5")
    nobody, no_key, no_header, no_url = await asyncio.gather(
        run(*given, settings={"CROSSFADE_URL": "http://127.0.0.1:1"}),
        run(*given, settings={"CROSSFADE_API_KEY": "cf_unknown"}),
        run(*given, "--header", "nonsense"),
        run(*given, "--url", "127.0.0.1:3000"),
    )
    assert [ran.status for ran in (nobody, no_key, no_header, no_url)] == [1, 1, 2, 2]
    assert b"no service answers at http://127.0.0.1:1" in nobody.errors
    assert b"crossfade keys new" in no_key.errors
    assert b"cf_unknown" not in no_key.errors
    assert b"base URL" in no_url.errors


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    run: Run, site: Site, conversation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:1")
    given = ("produce", "by command", "--conversation", conversation, "--timeout", "5")
    sent = await run(*given, settings=proxies)
    assert sent.status == 0, sent.errors
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    for number, url in enumerate((site.url, site.url.replace("127.0.0.1", "localhost"))):
        async with AsyncClient(url, api_key=API_KEY, retry=Retry(deadline=5)) as client:
            await client.send(NewMessage(conversation, "a", f"asynchronous {number}"))
        with Client(url, api_key=API_KEY, retry=Retry(deadline=5)) as client:
            await asyncio.to_thread(client.send, NewMessage(conversation, "a", f"plain {number}"))
    assert len(await site.rows(conversation, 5)) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("NO_PROXY", "[::1]"), ("ALL_PROXY", "socks5://127.0.0.1:1"), ("HTTP_PROXY", "ftp://x")],
)
async def test_a_proxy_of_the_environment_that_can_not_be_used_is_named(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    sent = await run("produce", "x", "--conversation", "c", settings={name: value})
    assert (sent.status, sent.output) == (2, b"")
    assert sent.errors.count(b"\n") == 1
    assert name in sent.errors.decode()
    monkeypatch.setenv(name, value)
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match=name):
            kind(site.url)


async def test_a_message_whose_fate_is_open_is_told_with_how_to_repeat_it(
    run: Run, site: Site, conversation: str
) -> None:
    site.front.black_hole()
    given = ("produce", "x", "--conversation", conversation, "--sender", "ops")
    silent = await run(*given, "--timeout", "1")
    site.front.heal()
    assert silent.status == 1
    (key,) = re.findall(rb"--key (\S+) --sender ops", silent.errors)
    again = await run(*given, "--key", key.decode(), "--wait")
    assert again.status == 0, again
    assert await site.rows(conversation) == ["x"]


async def test_a_conversation_is_shown_whole_and_in_order(
    run: Run, site: Site, conversation: str
) -> None:
    async with AsyncClient(site.url, api_key=API_KEY) as client:
        contents = [f"line {number}" for number in range(230)]
        results = await client.send_batch([NewMessage(conversation, "a", c) for c in contents])
        await client.wait(results[-1].ack.message_id)
    every, some, lines, nobody, foreign = await asyncio.gather(
        run("conversation", conversation, "--json", "--content"),
        run("conversation", conversation, "--after", results[9].ack.message_id, "--limit", "3"),
        run("conversation", conversation, "--content"),
        run("conversation", "nobody's"),
        run("conversation", "nobody's", "--after", results[9].ack.message_id),
    )
    assert every.status == 0, every
    assert [json.loads(line)["content"] for line in every.output.splitlines()] == contents
    ids = [result.ack.message_id for result in results[10:13]]
    assert [line.split("  ")[1] for line in some.output.decode().splitlines()] == ids
    assert f"There may be more: --after {ids[-1]}" in some.errors.decode()
    assert b"line 1" not in some.output
    assert [line.split("  ")[-1] for line in lines.output.decode().splitlines()] == contents
    assert (nobody.status, nobody.output) == (0, b"")
    assert b'No message of conversation "nobody\'s" is persisted' in nobody.errors
    assert foreign.status == 1
    assert b"is no persisted message of conversation" in foreign.errors


async def test_a_conversation_is_followed_and_no_other(
    run: Run, site: Site, conversation: str
) -> None:
    command = ("tail", "--conversation", conversation, "--content", "--json")
    following = asyncio.create_task(run(*command, until='"what": "persisted"'))
    async with AsyncClient(site.url, api_key=API_KEY) as client:
        while not following.done():  # it follows from its beginning, which can't be seen from here
            await client.send(NewMessage("another", "a", "not shown"))
            await client.send(NewMessage(conversation, "a", "shown"))
            await asyncio.wait([following], timeout=0.1)
    ran = following.result()
    assert ran.status == 130
    told = [json.loads(line) for line in ran.output.splitlines()]
    assert {line["content"] for line in told} == {"shown"}
    assert {line["what"] for line in told} == {"accepted", "persisted"}


async def test_test_messages_are_one_row_each_in_order(run: Run, site: Site) -> None:
    lost = site.front.lost_replies
    site.front.lose_reply_to(b"POST /api/messages HTTP", times=3)
    ran = await run(
        *("dev", "produce", "--rate", "100", "--count", "120", "--conversations", "7"),
        *("--repeats", "20", "--json"),
    )
    assert ran.status == 0, ran
    told = json.loads(ran.output)
    assert site.front.lost_replies == lost + 3
    assert (told["sent"], told["accepted"], told["failed"], told["retried"]) == (120, 120, 0, 3)
    assert told["repeated"] > 3
    assert told["check"] == {
        "good": True, "rows": 120, "unacknowledgedRows": 0, "faults": [], "notChecked": None,
    }  # fmt: skip
    assert 0 < told["latencySeconds"]["p50"] <= told["latencySeconds"]["p99"]
    assert len(told["conversations"]) == 7


async def test_ctrl_c_ends_the_sending_and_the_rows_are_still_checked(run: Run) -> None:
    given = ("dev", "produce", "--rate", "50", "--conversations", "2")
    ran = await run(*given, terminal=True, columns=100, until=r"accepted[^$]*\d+")
    assert ran.status == 0, ran
    assert re.search(rb"acknowledged, [\d,]+ rows: one row each, in order", ran.output)
    assert b"p99" in ran.output


async def test_rows_that_the_key_may_not_read_are_told_as_not_checked(run: Run) -> None:
    given = ("dev", "produce", "--count", "3", "--rate", "100")
    unread, refused, unread_on_purpose = await asyncio.gather(
        run(*given, settings={"CROSSFADE_API_KEY": PRODUCER_KEY}),
        run(*given, settings={"CROSSFADE_API_KEY": ""}),
        run(*given, "--no-check"),
    )
    assert unread.status == 3, unread
    assert b"not checked" in unread.errors
    assert refused.status == 1
    assert b"asks for an API key and got no key" in refused.errors
    assert unread_on_purpose.status == 0
    assert b"3 accepted; their rows were not read." in unread_on_purpose.output


async def test_missing_doubled_and_misplaced_rows_are_found(site: Site, conversation: str) -> None:
    async with AsyncClient(site.url, api_key=API_KEY) as client:
        last = ""
        for number in (0, 2, 1, 2, 4, 9):
            last = (await client.send(NewMessage(conversation, "a", f"{number} x"))).message_id
        sent = Conversation(conversation, sent=6, accepted=5, last_id=last, open={4})
        checked = await check_rows(client, [sent], 10.0)
    assert (checked.rows, checked.unacknowledged) == (6, 1)
    found = " ".join(checked.faults)
    assert "message 1 stands after message 2" in found
    assert "message 2 has a second row" in found
    assert "message 9 has a second row" in found
    assert "2 acknowledged messages have no row (3, 5" in found


async def test_rows_whose_content_is_in_the_payload_store_are_checked(run: Run) -> None:
    given = ("dev", "produce", "--count", "3", "--rate", "100", "--size", "65536")
    checked = await run(*given)
    assert checked.status == 0, checked
    assert b"3 rows" in checked.output


async def test_rows_that_never_come_are_waited_for_once_and_not_once_a_conversation(
    site: Site,
) -> None:
    given = [Conversation(f"none {n}", sent=1, accepted=1, last_id=str(uuid4())) for n in range(24)]
    async with AsyncClient(site.url, api_key=API_KEY) as client, asyncio.timeout(6.0):
        checked = await check_rows(client, given, 3.0)
    assert len(checked.faults) == 24


@pytest.mark.parametrize("seconds", [0.001, 0.1, 3.0])
def test_quantiles_are_within_their_two_percent(seconds: float) -> None:
    latencies = Latencies()
    assert latencies.quantile(0.5) is None
    for number in range(1, 101):
        latencies.add(seconds * number)
    for share in (0.5, 0.99, 1.0):
        exact = seconds * 100 * share
        assert exact <= (latencies.quantile(share) or 0) <= exact * 1.021
