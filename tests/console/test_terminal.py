"""The terminal tells the same as the console: ``message``, ``tail`` and ``status``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.console.conftest import Place
from tests.console.page_actions import bury
from tests.support.crossfade import Crossfade

pytestmark = pytest.mark.timeout(180)

Command = Callable[..., Awaitable[Crossfade]]


@pytest_asyncio.fixture
async def command(both: Place, tmp_path: Path) -> AsyncIterator[Command]:
    """Run ``crossfade ARGUMENTS`` with the settings of the service over both logs."""
    started: list[Crossfade] = []

    async def start(*arguments: str) -> Crossfade:
        started.append(await Crossfade.fork(*arguments, cwd=tmp_path, **both.settings))
        return started[-1]

    yield start
    for process in started:
        await process.kill()


async def test_message_tells_the_story_by_any_id(both: Place, command: Command, name: str) -> None:
    posted = await both.post(name, f"{name}-1", "[bold]Hello[/]")
    await both.persisted(posted["messageId"])
    shown = await command("message", f"{name}-1")
    assert await shown.ends() == 0
    for text in (posted["messageId"], "Accepted by the ingress", "Appended to redis", "Persisted"):
        assert text in shown.text
    await both.post(name, f"{name}-2")
    several = await command("message", name, "--json")
    assert await several.ends() == 0
    found = json.loads(several.text)
    assert [item["matched"] for item in found["items"]] == [["conversation"]] * 2
    nobody = await command("message", "nobody-has-this-id")
    assert await nobody.ends() == 1
    assert "no message has the id" in nobody.text


async def test_tail_follows_one_conversation_to_its_rows_and_dead_letters(
    both: Place, command: Command, name: str
) -> None:
    tail = await command("tail", "--conversation", name, "--json")
    await tail.says("Following redis")
    await both.post(f"{name}-another", "elsewhere")
    posted = await both.post(name, f"{name}-1")
    dead = await bury(both, name)
    for what, identifier in (
        ("accepted", posted["messageId"]),
        ("persisted", posted["messageId"]),
        ("dead_lettered", dead),
    ):
        await tail.says(f'"what": "{what}".*"message_id": "{identifier}"')
    assert "elsewhere" not in tail.text
    assert "Hello" not in tail.text  # content is shown where it is asked for
    await tail.interrupt()


async def test_status_says_in_sentences_what_the_console_says(
    both: Place, command: Command, name: str
) -> None:
    await bury(both, name)
    status = await command("status")
    assert await status.ends() == 0
    assert "wait for a decision" in status.text or "waits for a decision" in status.text
    assert "Read their errors and fix the cause" in status.text
