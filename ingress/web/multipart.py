"""The parts of a ``multipart/form-data`` body, as they come from the socket."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingress.schema.problems import Problem
from ingress.schema.validation_errors import malformed
from ingress.web.headers import Headers

__all__ = ["FormEvent", "FormReader", "PartEnd", "PartHead", "is_form"]

_FORM = b"multipart/form-data"


class PartHead(msgspec.Struct, frozen=True):
    """A part begins. ``name`` is its field's; the headers' names are in lower case."""

    name: str
    headers: Headers


class PartEnd(Enum):
    """A part is complete."""

    END = "end"


FormEvent = PartHead | bytes | PartEnd


def is_form(headers: Headers) -> bool:
    """Return whether the body is ``multipart/form-data``."""
    return headers.get(b"content-type", b"").lower().startswith(_FORM)


class FormReader:
    """Splits the body of one request.

    Args:
        headers: Of the request.

    Raises:
        Problem: ``Content-Type`` has no boundary that can be used.
    """

    def __init__(self, headers: Headers) -> None:
        _, options = parse_options_header(headers[b"content-type"])
        self._events: list[FormEvent] = []
        self._part: Headers = {}
        self._name = self._value = b""
        self._complete = False
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise malformed("The Content-Type is multipart/form-data without a boundary.")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part.clear,
                    "on_header_field": self._field,
                    "on_header_value": self._header,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._head_end,
                    "on_part_data": self._data,
                    "on_part_end": lambda: self._events.append(PartEnd.END),
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _broken(error) from error

    def feed(self, data: bytes) -> Iterator[FormEvent]:
        """Yield what the next bytes of the body are.

        Raises:
            Problem: they are not part of such a body.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _broken(error) from error
        events, self._events = self._events, []
        yield from events

    def end(self) -> None:
        """Note that the body has ended.

        Raises:
            Problem: its last boundary is missing.
        """
        if not self._complete:
            raise malformed("The multipart body ends before its last boundary.")

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._part[self._name.lower()] = self._value
        self._name = self._value = b""

    def _head_end(self) -> None:
        _, options = parse_options_header(self._part.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._events.append(PartHead(name, dict(self._part)))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _end(self) -> None:
        self._complete = True


def _broken(error: FormParserError) -> Problem:
    return malformed(f"The body is not multipart/form-data: {error}.")
