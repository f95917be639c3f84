"""No text from outside steers a terminal or ends a command, in whatever column or record it is.

Every command is run on a database and a log that hold hostile text wherever text can be: on a
terminal and into pipes, wide and narrow. What it writes has no control character but line feeds
(and, on a terminal, colours), and it ends as it does on tame text.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.main import get_command

from compose.cli import application
from tests.hostile.terminal.conftest import Installation
from tests.support.forked_commands import Ran
from tests.support.hostile_rows import DEAD, MESSAGE, REDRIVE
from tests.support.hostile_text import WORST, hostile_texts

pytestmark = pytest.mark.timeout(300)

TAME = "tame text"
NOBODY = "http://127.0.0.1:1"
SCREENS = [(60, True), (80, False), (200, True), (60, False), (80, True), (200, False)]
# What Rich writes itself on a terminal: colours, and the ways of a picture that is drawn again.
_RICH = re.compile(r"\x1b\[(\d{1,3}(;\d{1,3})*)?m|\x1b\[\?25[lh]|\x1b\[\d?[AK]|\x1b\[1?A|\r")
# C0, DEL, C1, and the characters that turn text, hide in it, or break its lines.
_UNSEEN = re.compile(
    "[\0-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)

Case = tuple[list[str], dict[str, Any]]
Tame = dict[tuple[str, ...], int]


def cases(text: str) -> dict[str, list[Case]]:
    """Return the calls of each command; those that change nothing come first."""
    dead, story, redrive = str(DEAD), str(MESSAGE), str(REDRIVE)
    produce = ["produce", f"--conversation={text}", f"--sender={text}", f"--key={text}"]
    return {
        "settings": [(["settings"], {}), (["settings", "--json"], {})],
        "status": [
            (["status"], {}),
            (["status", "--json"], {}),
            # A word: the lines of a sentence break where the screen and the text have it.
            (["status", "--watch"], {"until": "alarm|warning", "terminal": True}),
        ],
        "doctor": [(["doctor"], {}), (["doctor", "--json"], {})],
        "message": [
            (["message", story], {}),
            (["message", dead], {}),
            (["message", "--json", story], {}),
            (["message", "--", text], {}),
            (["message", "--json", "--", text], {}),
        ],
        "conversation": [
            (["conversation", "--content", "--", text], {}),
            (["conversation", "--json", "--content", "--", text], {}),
        ],
        "produce": [
            ([*produce, f"--url={NOBODY}", "--timeout=0.1", "--", text], {}),
            ([*produce, f"--url=http://{text} x", "--timeout=0.1", "--", text], {}),
            ([*produce, f"--file={text}/x", f"--header={text}"], {}),
        ],
        "dev produce": [
            (["dev", "produce", f"--url={NOBODY}", "--count=1", "--deadline=0.1"], {}),
            (["dev", "produce", f"--url={text}", "--count=1"], {}),
        ],
        "audit": [(["audit"], {}), (["audit", "--json"], {})],
        "erase": [
            (["erase", "--dry-run", "--sender", text], {}),
            (["erase", "--conversation", f"{text} nobody's", "--why", f"{text} x", "--yes"], {}),
        ],
        "capacity": [
            (["capacity", "--rate=5000"], {}),
            (["capacity", "--rate", text], {}),
        ],
        "dlq list": [
            (["dlq", "list"], {}),
            (["dlq", "list", "--json", "--state", "any"], {}),
            (["dlq", "list", "--conversation", text], {}),
        ],
        "dlq show": [(["dlq", "show", "1"], {})],
        "jobs list": [(["jobs", "list"], {}), (["jobs", "list", "--json"], {})],
        "jobs watch": [(["jobs", "watch", redrive[:-1] + "9"], {}), (["jobs", "watch", text], {})],
        "jobs cancel": [(["jobs", "cancel", redrive[:-1] + "9"], {})],
        "payloads verify": [
            (["payloads", "verify"], {}),
            (["payloads", "verify", "--sample", text], {}),
        ],
        "payloads sweep": [
            (["payloads", "sweep", "--dry-run"], {}),
            (["payloads", "sweep", "--older-than", text], {}),
        ],
        "payloads copy": [
            (["payloads", "copy", "--to", text, "--dry-run"], {}),
            (["payloads", "copy", "--from", text], {}),
        ],
        "rows archive": [(["rows", "archive"], {}), (["rows", "archive", "--dry-run"], {})],
        "db current": [(["db", "current"], {})],
        "db upgrade": [(["db", "upgrade", "--", text], {})],
        "db downgrade": [(["db", "downgrade", "--", text], {"answer": b"n\n"})],
        "keys list": [(["keys", "list"], {})],
        "keys new": [(["keys", "new", "--", f"{text} x"], {})],
        "migrate status": [(["migrate", "status"], {}), (["migrate", "status", "--json"], {})],
        "migrate check": [
            (["migrate", "check"], {}),
            (["migrate", "check", "--json"], {}),
        ],
        "migrate plan": [(["migrate", "plan", "--to", text, "--why", text + "x", "--yes"], {})],
        "migrate run": [
            (["migrate", "run", "--to", text, "--why", text + "x", "--yes", "--dry-run"], {})
        ],
        "migrate retire": [
            (["migrate", "retire", "--why", text + "x", "--yes", "--", text], {}),
            (["migrate", "retire", "--why", text + "x", "--yes", "--json", "redis"], {}),
        ],
        "migrate watch": [(["migrate", "watch"], {"until": "process", "terminal": True})],
        "migrate parity": [(["migrate", "parity", "--primary", text], {})],
        "migrate backfill": [(["migrate", "backfill", "--into", text, "--dry-run"], {})],
        "migrate forget": [
            (["migrate", "forget", "--why", text + "x", "--yes", "--", f"{text}9"], {}),
            (
                ["migrate", "forget", "--why", text + "x", "--", text],
                {"terminal": True, "answer": b"n\n"},
            ),
        ],
        "migrate forget-log": [
            (["migrate", "forget-log", "--why", text + "x", "--yes", "--", f"{text}9"], {}),
            (["migrate", "forget-log", "--why", text + "x", "--dry-run", "--", text], {}),
        ],
        "migrate advance": [
            (["migrate", "advance", "--why", text + "x", "--yes", "--no-wait"], {}),
            (["migrate", "advance", "--why", "x", "--overrule", text], {}),
        ],
        "migrate rollback": [
            (["migrate", "rollback", "--why", text + "x", "--yes", "--no-wait"], {})
        ],
        "migrate cancel": [(["migrate", "cancel", "--why", text + "x"], {})],
        "dlq redrive": [
            (["dlq", "redrive", "--all", "--dry-run"], {}),
            (["dlq", "redrive", "1"], {}),
            (["dlq", "redrive", "--resume", redrive[:-1] + "9"], {}),
        ],
        "dlq discard": [
            (["dlq", "discard", "--why", text + "x", "--yes", "2"], {}),
            (
                ["dlq", "discard", "--why", text + "x", "--conversation", text],
                {"answer": b"n\n"},
            ),
        ],
    }


NOT_RUN = {
    "completion": "shows nothing from outside",
    "up": "starts servers of its own; its words are compose.output's",
    "serve": "is looked at in test_logs",
    "worker": "is looked at in test_logs",
    "tail": "has a test of its own below",
    "migrate rehearse": "shows its own load alone",
    "soak": "shows its own load alone",
}


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path)
        return
    for name, below in inner.items():
        yield from _leaves(below, (*path, name))


def test_every_command_is_run_here() -> None:
    assert set(_leaves(get_command(application()))) == {*cases(TAME), *NOT_RUN}


def check(ran: Ran, case: list[str]) -> None:
    """Assert that nothing but text was written."""
    shown = _RICH.sub("", ran.everything)
    found = _UNSEEN.search(shown)
    assert found is None, f"{case}: {found!r} in {shown[max(0, found.start() - 80) :][:200]!r}"
    assert "Traceback (most recent call last)" not in shown, f"{case}:\n{shown}"


LOOKING = ("message", "dlq list", "dlq show", "migrate status", "jobs list")


async def run_all(
    installation: Installation,
    text: str,
    screens: list[tuple[int, bool]],
    names: Collection[str] | None = None,
) -> list[tuple[list[str], Ran]]:
    """Run every case, in order where one changes what the next finds; or those of some commands."""
    todo = [
        case for name, some in cases(text).items() if name in (names or {name}) for case in some
    ]
    changing = (n for n, (argv, _) in enumerate(todo) if argv[:2] == ["migrate", "forget"])
    reading = next(changing, len(todo))

    async def run(number: int, case: Case) -> Ran:
        arguments, options = case
        columns, terminal = screens[number % len(screens)]
        options = {"columns": columns, "terminal": terminal} | options
        return await installation.run(*arguments, **options)

    rans = await asyncio.gather(*(run(n, case) for n, case in enumerate(todo[:reading])))
    rans += [await run(reading + n, case) for n, case in enumerate(todo[reading:])]
    return [(arguments, ran) for (arguments, _), ran in zip(todo, rans, strict=True)]


@pytest.fixture(scope="module")
async def tame(installation: Installation) -> Tame:
    """The exit status of each case on harmless text."""
    await installation.fill(TAME)
    rans = await run_all(installation, TAME, SCREENS)
    return {tuple(arguments): ran.status for arguments, ran in rans}


async def _judge(
    installation: Installation,
    tame: Tame,
    text: str,
    screens: list[tuple[int, bool]],
    names: Collection[str] | None = None,
) -> None:
    text = text[:256]
    await installation.fill(text)
    wrong = []
    same = [
        tuple(arguments)
        for name, some in cases(TAME).items()
        if name in (names or {name})
        for arguments, _ in some
    ]
    rans = await run_all(installation, text, screens, names)
    for (arguments, ran), as_tame in zip(rans, same, strict=True):
        status = 2 if _lacks_a_value(arguments) else tame[as_tame]
        try:
            check(ran, arguments)
            assert ran.status == status, f"{arguments}: not {status}\n{ran.everything}"
            if "--json" in arguments and not ran.errors and ran.output.startswith(b"{"):
                json.JSONDecoder().raw_decode(_RICH.sub("", ran.output.decode()).lstrip())
        except (AssertionError, ValueError) as error:
            wrong.append(str(error))
    assert not wrong, "\n\n".join(wrong)


_FEW = settings(
    max_examples=2, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


async def test_every_command_shows_hostile_text_as_text(
    installation: Installation, tame: Tame
) -> None:
    await _judge(installation, tame, WORST, SCREENS[3:] + SCREENS[:3])


@_FEW
@given(text=hostile_texts(), shift=st.integers(0, 5))
async def test_commands_show_hostile_text_as_text(
    installation: Installation, tame: Tame, text: str, shift: int
) -> None:
    await _judge(installation, tame, text, SCREENS[shift:] + SCREENS[:shift], LOOKING)


def _lacks_a_value(arguments: list[str]) -> bool:
    """Return whether an option's value is empty: that is refused, as tame text isn't."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "" in options or any(
        option.startswith("--") and option.endswith("=") for option in options
    )


async def test_an_empty_value_is_refused_and_names_its_option(
    installation: Installation, tame: Tame
) -> None:
    """In the commands that take a text; to the others it is the same as tame text."""
    taking = {name for name, some in cases("").items() if some != cases(TAME)[name]}
    await _judge(installation, tame, "", SCREENS, taking)
    for option in (["--conversation", ""], ["--conversation="]):
        ran = await installation.run("dlq", "list", *option)
        assert (ran.status, "--conversation is empty" in ran.everything) == (2, True)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@settings(_FEW, max_examples=60)
@given(text=hostile_texts(40), screen=st.sampled_from(SCREENS))
async def test_commands_show_hostile_text_as_text_whatever_it_is(
    installation: Installation, tame: Tame, text: str, screen: tuple[int, bool]
) -> None:
    await _judge(installation, tame, text, [screen])


async def test_no_column_has_to_mean_what_it_meant_to_us(installation: Installation) -> None:
    """A row of a later version, or of somebody's script: told as it is, or left out."""
    await installation.fill(WORST[:256], everywhere=True)
    looking = [
        case
        for name, some in cases(WORST[:256]).items()
        for case in some
        if name in {"status", "message", "audit", "dlq list", "dlq show", "jobs list"}
        or (name.startswith("migrate ") and not case[1] and "--why" not in case[0])
    ]
    rans = await asyncio.gather(
        *(installation.run(*arguments, **options) for arguments, options in looking)
    )
    for (arguments, _), ran in zip(looking, rans, strict=True):
        check(ran, arguments)


async def test_ids_stay_what_they_are_in_json(installation: Installation) -> None:
    text = WORST[:256]
    await installation.fill(text)
    found = json.loads((await installation.run("message", "--json", str(MESSAGE))).output)
    assert found["message"]["conversationId"] == text
    assert found["message"]["content"] == text
    assert found["message"]["traceUrl"].startswith("http://traces.test/%1B%5B31337m")
    (newest, *_) = json.loads((await installation.run("dlq", "list", "--json")).output)
    assert newest["conversationId"] == f"{text}1"


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_tail_goes_on_past_hostile_records(
    installation: Installation, as_json: bool
) -> None:
    await installation.fill(TAME)
    arguments = ["tail", "--content", *(["--json"] if as_json else [])]
    # What is awaited comes after all the hostile ones, in the order of the log.
    tail = asyncio.create_task(installation.run(*arguments, terminal=True, until="the last one"))
    while not tail.done():
        await installation.append(WORST)
        await installation.append("the last one")
        await asyncio.wait([tail], timeout=0.3)
    ran = await tail
    check(ran, arguments)
    assert ran.status == 130
    assert "unreadable" in ran.everything
    assert "owned" in ran.everything


async def test_bytes_are_not_written_to_a_terminal(installation: Installation) -> None:
    await installation.fill(WORST[:256])
    refused = await installation.run("dlq", "show", "1", "--body", terminal=True)
    assert refused.status == 1
    assert "redirect" in refused.everything
    written = await installation.run("dlq", "show", "1", "--body")
    assert (written.status, written.output) == (0, WORST[:256].encode() + b"\xff\0")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["message", "-x"], 2, "an id that begins with '-' is given after '--'"),
        (["message", "--", "-x"], 1, "no message has the id or conversation '-x'"),
        (["message", "a" * 256], 1, "no message has the id"),
        (["message", "a" * 5000], 1, "no message has the id"),
        (["message", "*"], 1, "no message has the id"),
        (["message", b"\xff\x1b[6n"], 2, "is not UTF-8"),
        (["message", "one", "two\x1b[6n"], 2, "unexpected extra argument"),
        (["dlq", "list", "--conversation", "-x"], 0, "No dead letters are pending"),
        (["dlq", "show", "\x1b[6n"], 2, "Invalid value for 'ID'"),
        (["dlq", "show", "99999999999999999999"], 2, "Invalid value for 'ID'"),
        (["dlq", "redrive", "99999999999999999999"], 2, "Invalid value for"),
        (["dlq", "redrive", "--all", "--rate", "99999999999"], 2, "Invalid value for '--rate'"),
        (["dlq", "list", "--older-than", "999999d"], 2, "longer ago than times reach"),
        (["jobs", "watch", "\u202e"], 2, "Invalid value for 'ID'"),
        (["dlq", "li\x1b[6nst"], 2, "No such command"),
        (["--opt\x1b[6nion"], 2, "No such option"),
        (["migrate", "forget", "--yes", "--why", "x", "--", "-x"], 1, "error: "),
    ],
)
async def test_an_argument_may_be_any_id(
    installation: Installation, arguments: list[str], status: int, told: str
) -> None:
    await installation.database.execute("TRUNCATE messages, dead_letters, processes CASCADE")
    ran = await installation.run(*arguments, terminal=len(told) % 2 == 0)
    check(ran, arguments)
    assert (ran.status, told in " ".join(ran.everything.split())) == (status, True), ran.everything
