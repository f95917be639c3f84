"""Lines quote ids of clients, and are read in terminals: nothing in them steers one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from otel.logging import configure
from otel.settings import OtelSettings
from tests.support.hostile_text import WORST

EVERYTHING = f"{WORST}\0\udcff"
COUNT = 5
_UNSEEN = [*map(chr, range(32)), *map(chr, range(127, 160)), *"\u202e\u2066\u200b\u2028\udcff"]


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest) -> Iterator[tuple[str, Callable[[], str]]]:
    """Configure logging in either format; return which, and what writes and returns the lines."""
    out = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure(OtelSettings(log_format=request.param), stream=out)
    ours = root.handlers[:]

    def written() -> str:
        # pytest adds its own when the test begins, and can't send half a surrogate pair on.
        root.handlers[:] = ours
        _log()
        return out.getvalue()

    yield request.param, written
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def _log() -> None:
    """Log in every way there is: ``COUNT`` lines."""
    log = structlog.get_logger("ours")
    log.warning("Could not use it", conversation=EVERYTHING, many=[EVERYTHING], n=2**70)
    log.info(EVERYTHING, key={EVERYTHING: EVERYTHING.encode("utf-8", "surrogatepass")})
    logging.getLogger("theirs").warning("about %s", EVERYTHING, extra={"odd": _Odd()})
    try:
        int(EVERYTHING)
    except ValueError:
        log.exception("Failed")
        logging.getLogger("theirs").exception("failed")


class _Odd(SimpleNamespace):
    def __repr__(self) -> str:
        return EVERYTHING


def test_no_line_has_what_can_not_be_seen(lines: tuple[str, Callable[[], str]]) -> None:
    how, written = lines
    text = written()
    assert not [character for character in _UNSEEN if character != "\n" and character in text]
    assert "31337m" in text
    if how == "json":
        read: list[Any] = [json.loads(line) for line in text.splitlines()]
        assert len(read) == COUNT
        assert read[0]["conversation"] == EVERYTHING
        assert read[0]["n"] == 2**70
    else:
        # A line of the log begins with its time: nothing that was quoted began one.
        begun = [line for line in text.splitlines() if line[:3].strip().isdigit() or "[" in line]
        assert sum("[warning" in line[:30] or "[info" in line[:30] for line in begun) == 3
