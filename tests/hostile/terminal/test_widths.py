"""Into a pipe nothing is cut or wrapped; in a terminal no id or time is broken; JSON is JSON."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from typing import Any

import pytest
from typer.main import get_command

from compose.cli import application
from compose.settings import known
from tests.hostile.terminal.conftest import Installation
from tests.hostile.terminal.test_commands import NOT_RUN, Case, cases
from tests.support.forked_commands import Ran
from tests.support.hostile_rows import MESSAGE

pytestmark = pytest.mark.timeout(300)

TEXT = "conversation-of-a-long-name-0123456789-0123456789 and words that follow it"
READING = (
    "settings", "status", "message", "audit", "dlq list", "dlq show", "jobs list", "keys list",
    "migrate status", "migrate check",
)  # fmt: skip
NO_DATA = {"up", "serve", "worker", "completion"}

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")
_ID_OR_TIME = re.compile(
    "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
)
# What passes while commands run: ages, in their column or in a sentence.
_AGE = re.compile(r" *\d+(?:\.\d+)? (?:s|min|h|ms)\b")


@pytest.fixture(scope="module")
async def filled(installation: Installation) -> Installation:
    """The installation, with a text in every place of which a part is one long word."""
    await installation.fill(TEXT)
    key = f"alice:produce+read:{'0' * 64}:sender={'a' * 30}:conversation={'b' * 30}"
    installation.settings["API_KEYS"] = key
    return installation


def reading() -> list[list[str]]:
    """Return the commands that show something and change nothing, as people read them."""
    found = [case for name in READING for case, options in cases(TEXT)[name] if not options]
    return [case for case in found if "--json" not in case]


async def _all(
    installation: Installation, arguments: list[list[str]], **options: Any
) -> list[tuple[list[str], Ran]]:
    rans = await asyncio.gather(*(installation.run(*argument, **options) for argument in arguments))
    return list(zip(arguments, rans, strict=True))


async def test_into_a_pipe_nothing_is_cut_or_wrapped(filled: Installation) -> None:
    narrow = await _all(filled, reading(), columns=60)
    wide = await _all(filled, reading(), columns=200)
    for (case, small), (_, large) in zip(narrow, wide, strict=True):
        assert small.status == large.status, case
        assert _AGE.sub("", small.everything) == _AGE.sub("", large.everything), case
        assert "\u2026" not in small.everything, case
        assert "--wide" not in small.everything, case
        assert not re.search(r" $", small.output.decode(), re.MULTILINE), case
    (letter, *_) = json.loads((await filled.run("dlq", "list", "--json")).output)
    (rows,) = [ran.output.decode() for case, ran in narrow if case == ["dlq", "list"]]
    (row,) = [line for line in rows.splitlines() if line.split()[0] == str(letter["id"])]
    for name in ("failedAt", "reason", "messageId", "conversationId", "error", "state"):
        assert letter[name] in row


@pytest.mark.parametrize("columns", [60, 80])
async def test_in_a_terminal_no_id_or_time_is_broken(filled: Installation, columns: int) -> None:
    whole = await _all(filled, reading(), columns=200)
    rans = await _all(filled, reading(), columns=columns, terminal=True)
    names = max(map(len, known())) + 2  # the first column of 'crossfade settings'
    for (case, piped), (_, ran) in zip(whole, rans, strict=True):
        assert ran.status == piped.status, case
        shown = _COLOUR.sub("", ran.everything)
        lines = [line for line in shown.split("\n") if "Judging" not in line]
        for line in lines:
            unbreakable = max((len(word) for word in line.split()), default=0) > columns - names
            assert len(line) <= columns or unbreakable, (case, line)
        for token in set(_ID_OR_TIME.findall(piped.everything)):
            parts = {token[:length] for length in range(8, len(token))}
            ends = {line.split()[-1] for line in lines if line.split()}
            assert not parts & ends, (case, token)


async def test_wide_shows_every_column_in_a_narrow_terminal(filled: Installation) -> None:
    piped = await filled.run("dlq", "list")
    wide = await filled.run("dlq", "list", "--wide", columns=60, terminal=True)
    assert _COLOUR.sub("", wide.output.decode()).endswith(piped.output.decode())
    narrow = await filled.run("dlq", "list", columns=60, terminal=True)
    assert "(--wide shows also: " in narrow.output.decode()


def _leaves(command: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return {" ".join(path): command}
    return {k: v for name, value in inner.items() for k, v in _leaves(value, (*path, name)).items()}


def test_every_command_that_tells_something_has_json_and_none_an_unexplained_flag() -> None:
    for name, command in _leaves(get_command(application())).items():
        options = {opt for param in command.params for opt in param.opts}
        assert ("--json" in options) == (name not in NO_DATA), name
        assert all(getattr(param, "help", "x") for param in command.params), name


DELETING = (
    *("dlq discard", "db downgrade", "migrate forget", "migrate forget-log"),
    *("audit", "migrate advance"),
)


def test_whatever_deletes_can_be_tried() -> None:
    leaves = _leaves(get_command(application()))
    for name in DELETING:
        assert "--dry-run" in {opt for param in leaves[name].params for opt in param.opts}, name


def _with_json(case: list[str]) -> list[str]:
    at = case.index("--") if "--" in case else len(case)
    return [*case[:at], "--json", *case[at:]]


async def test_json_is_json_and_so_are_errors(filled: Installation) -> None:
    every: list[Case] = [
        (case, options)
        for name, some in cases(TEXT).items()
        for case, options in some
        if name not in NOT_RUN and "--json" not in case and not options
    ]
    every += [(["dlq", "discard", "--why", "x", "--all", "--dry-run"], {})]
    every += [(["db", "downgrade", "base", "--dry-run"], {})]
    every += [(["migrate", "rollback", "--why", "x", "--dry-run"], {})]
    for case, options in every:
        ran = await filled.run(*_with_json(case), **options)
        for line in ran.errors.decode().splitlines():
            told = json.loads(line)
            assert set(told) >= {"level", "message"}, (case, line)
            assert told["level"] != "error" or told["status"] == ran.status, (case, line)
        if ran.output:
            json.loads(ran.output)
        assert ran.output or ran.errors, case
        assert "Traceback" not in ran.everything, (case, ran.everything)
        assert (ran.status == 0) <= bool(ran.output), case


async def test_a_letter_and_a_redrive_as_json(filled: Installation) -> None:
    await filled.fill(TEXT)
    letter = json.loads((await filled.run("dlq", "show", "1", "--json")).output)
    assert letter["body"] == {"text": None, "base64": letter["body"]["base64"]}
    assert letter["conversationId"] == TEXT
    would = json.loads((await filled.run("dlq", "discard", "--why", "x", "--all", "--dry-run",
                                         "--json")).output)  # fmt: skip
    assert would == {"wouldDiscard": 2, "byReason": {"rejected": 2}}
    # A redrive appends only where processes write.
    await filled.database.execute("UPDATE migration SET old_log = 'redis', new_log = 'kafka'")
    done = json.loads((await filled.run("dlq", "redrive", "1", "--json")).output)
    assert (done["state"], done["done"]) == ("done", 1)
    gone = json.loads((await filled.run("dlq", "discard", "--why", "x", "2", "--yes",
                                        "--json")).output)  # fmt: skip
    assert gone == {"discarded": 1}


async def test_status_goes_on_with_its_alarms(filled: Installation) -> None:
    ran = await filled.run("status", "--watch", until="No live worker owns", terminal=True)
    assert ran.status == 130
    lines = await filled.run("status", "--watch", "--json", until='"health"')
    first = json.loads(lines.output.decode().splitlines()[0])
    assert any("No live worker owns" in finding["text"] for finding in first["health"])


async def test_a_story_is_told_to_the_millisecond(filled: Installation) -> None:
    ran = await filled.run("message", str(MESSAGE))
    times = re.findall(r"\d{4}-\d\d-\d\dT\S+", ran.output.decode())
    shown = [time for time in times if not time.endswith(",")]
    assert shown
    assert all(re.fullmatch(r"\S{19}\.\d{3}Z", time) for time in shown[:3]), shown


async def test_each_setting_is_listed_once(filled: Installation) -> None:
    names = [load["name"] for load in json.loads((await filled.run("settings", "--json")).output)]
    assert len(names) == len(set(names))


def test_help_is_plain_and_whole() -> None:
    for name, command in _leaves(get_command(application())).items():
        summary = inspect.cleandoc(command.help).split("\n\n")[0]
        assert len(summary) <= 62, f"{name}: {summary}"  # or a list of commands cuts it
        assert "\n" not in summary, name
