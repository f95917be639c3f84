"""Logs: one JSON object per line on standard error, from our code and from the libraries'.

Every line has ``timestamp``, ``level`` and ``event``; lines about a message have ``message_id``,
``correlation_id`` and ``trace_id`` where they are known. Message content and secrets are never
logged: an error whose text may quote content has its text withheld, and a password in an address is
masked. Lines quote ids of clients: unseen characters in them are written out, so that a log shown
in a terminal can't control it (``otel.visible``).
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.types import EventDict, ExcInfo, Processor

from otel.log_stream import LogStream
from otel.settings import OtelSettings
from otel.visible import visible, visible_json

__all__ = ["Echo", "configure", "printer"]

_MASK = "***"
_TRACEBACK = "exception"
_UNREAD = "Log lines were left out: nobody read them"
_FIRST = ("timestamp", "level", "event")
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*):[^/\s]+@")
_SECRET_NAMES = frozenset({"authorization", "password", "secret", "api_key", "x-api-key", "token"})
_WITHHELD = "(text withheld: it may quote message content)"
# Libraries whose INFO lines repeat ours, or come once for each request.
_QUIET = ("uvicorn.access", "uvicorn.error", "alembic.runtime.migration", "aiokafka", "asyncio")

Echo = Callable[[EventDict], None]
"""Gets each event that is logged, without secrets and private texts; it must not change it."""


def configure(
    settings: OtelSettings,
    *,
    stream: TextIO | None = None,
    private_errors: Sequence[type[BaseException]] = (),
    echo: Echo | None = None,
) -> None:
    """Set up logging for the process. Called once, at start.

    Args:
        settings: The format and the level.
        stream: By default standard error.
        private_errors: Errors whose texts are withheld wherever a traceback shows one.
        echo: Gets each event as well.
    """
    target = stream or sys.stderr
    people = settings.log_format == "console"
    last = _console(target) if people else _json
    # People get the local time of day; machines get date and time, in UTC.
    time_stamper = structlog.processors.TimeStamper(
        fmt="%H:%M:%S" if people else "iso", utc=not people
    )

    def notice(left_out: int) -> str:
        event = {"event": _UNREAD, "level": "warning", "left_out": left_out}
        return str(last(None, "", time_stamper(None, "", event))) + "\n"

    out = cast("TextIO", LogStream(target, notice))
    level = logging.getLevelNamesMapping()[settings.log_level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        time_stamper,
        _Exceptions(tuple(private_errors)),
        _mask,
    ]
    if echo is not None:
        shared.append(_Echoed(echo))
    if people:
        shared.append(_visible)
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                *shared,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(capture=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def printer(settings: OtelSettings, out: TextIO) -> Echo:
    """Return an echo that writes every event to ``out``, in the format of ``settings``."""
    if settings.log_format == "json":
        return lambda event: print(_json(None, "", _public(event)), file=out, flush=True)
    render = _console(out)

    def show(event: EventDict) -> None:
        copy = {**_public(event), "timestamp": time.strftime("%H:%M:%S")}
        print(render(None, "", _visible(None, "", copy)), file=out, flush=True)

    return show


def _public(event: EventDict) -> EventDict:
    """Return a copy of ``event`` without structlog's own entries."""
    return {name: value for name, value in event.items() if not name.startswith("_")}


class _Echoed:
    """Gives each event to an echo, too."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        self._echo(event)
        return event


class _Exceptions:
    """Puts the traceback under ``exception``, without texts that may quote content."""

    def __init__(self, private: tuple[type[BaseException], ...]) -> None:
        self._private = private

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        info: ExcInfo | BaseException | bool | None = event.pop("exc_info", None)
        error = sys.exc_info()[1] if info is True else info
        if isinstance(error, tuple):
            error = error[1]
        if isinstance(error, BaseException):
            event[_TRACEBACK] = self._render(error)
        return event

    def _render(self, error: BaseException) -> str:
        whole = traceback.TracebackException.from_exception(error, capture_locals=False)
        if self._private:
            self._withhold(whole)
        return "".join(whole.format()).rstrip()

    def _withhold(self, part: traceback.TracebackException) -> None:
        seen = [part]
        for shown in seen:
            if issubclass(_type_of(shown), self._private):
                shown._str = _WITHHELD  # type: ignore[attr-defined]  # noqa: SLF001 - what format() prints
            seen.extend(
                linked
                for linked in (shown.__cause__, shown.__context__, *(shown.exceptions or ()))
                if linked
            )


def _type_of(part: traceback.TracebackException) -> type[BaseException]:
    known = vars(part)  # Python 3.13 renames it, and deprecates its property
    return known.get("_exc_type") or known.get("exc_type") or BaseException


def _mask(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name.lower() in _SECRET_NAMES:
            event[name] = _MASK
        elif isinstance(value, str) and "://" in value:
            event[name] = _PASSWORD_IN_URL.sub(rf"\1:{_MASK}@", value)
    return event


def _json(_logger: Any, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in _FIRST if name in event}  # for people's eyes
    whole = {**first, **event}
    try:
        line = msgspec.json.encode(whole, enc_hook=repr).decode()
    except (ValueError, TypeError, OverflowError):  # a lone surrogate, an integer past 64 bits
        line = json.dumps(whole, default=repr)
    return visible_json(line)


def _visible(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = visible(value, lines=name == _TRACEBACK)
        elif not isinstance(value, int | float | None):
            event[name] = visible(repr(value))
    return event


def _console(out: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0)
