"""A reader of one JSON object, member by member, with a limit on the work.

``json.loads`` builds every value of a text: a million members, or a third of a million empty
arrays, take a second, and other requests wait. This reader builds names and strings only, skips the
inside of other values, and stops after a number of tokens. A message that can be accepted never has
that many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined] # typeshed leaves it out
from typing import NamedTuple

__all__ = ["Array", "Members", "Other", "Value"]

_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"[^ \t\n\r,\]}]+")
_MARK = re.compile(r'["\[\]{}]')
_KINDS = {"{": "an object", "[": "an array", "t": "a boolean", "f": "a boolean", "n": "null"}


class Other(NamedTuple):
    """A value that is neither a string nor an array: only its kind is kept (``a number``)."""

    kind: str


class Array(NamedTuple):
    """The items of an array: all of them (``whole``), or those before the token limit."""

    items: list[str | Other]
    whole: bool


Value = str | Array | Other


class _EndedError(Exception):
    """The token limit is reached."""


class Members:
    """Reads the members of a JSON object.

    Args:
        text: A well-formed JSON object.
        tokens: The most tokens to read: each name, string, bracket and scalar is one.
    """

    def __init__(self, text: str, *, tokens: int) -> None:
        self._text = text
        self._left = tokens
        self._at = 0
        self.cut = False
        """Whether the token limit was reached before the end of the object."""

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        """Yield each name with its value. If ``cut``, the last value may be incomplete.

        Raises:
            JSONDecodeError: A string is not well-formed.
        """
        text = self._text
        self._skip(1)
        while text[self._at] != "}" and not self.cut:
            try:
                name = self._string()
                self._skip(1)  # the colon
            except _EndedError:
                self.cut = True
                return
            yield name, self._value()
            if not self.cut and text[self._at] == ",":
                self._skip(1)

    def _skip(self, characters: int) -> None:
        """Skip white space, then a number of characters, then white space again."""
        match = _SPACE.match
        at = match(self._text, self._at).end() + characters  # type: ignore[union-attr] # matches ""
        self._at = match(self._text, at).end()  # type: ignore[union-attr]

    def _spend(self) -> None:
        if self._left == 0:
            raise _EndedError
        self._left -= 1

    def _string(self) -> str:
        self._spend()
        value: str
        value, self._at = scanstring(self._text, self._at + 1)
        self._skip(0)
        return value

    def _value(self) -> Value:
        """Read the value at this place; at the token limit, return the part that was read."""
        if self._text[self._at] == "[":
            items: list[str | Other] = []
            try:
                self._array(items)
            except _EndedError:
                self.cut = True
            return Array(items, whole=not self.cut)
        kind = self._kind()
        try:
            return self._one()
        except _EndedError:
            self.cut = True
            return Other(kind)

    def _array(self, items: list[str | Other]) -> None:
        self._skip(1)
        while self._text[self._at] != "]":
            items.append(self._one())
            if self._text[self._at] == ",":
                self._skip(1)
        self._skip(1)

    def _one(self) -> str | Other:
        """Read a string, or skip any other value and return its kind."""
        first = self._text[self._at]
        if first == '"':
            return self._string()
        kind = self._kind()
        if first in "[{":
            self._pass_over()
        else:
            self._spend()
            self._at = _SCALAR.match(self._text, self._at).end()  # type: ignore[union-attr]
        self._skip(0)
        return Other(kind)

    def _kind(self) -> str:
        return _KINDS.get(self._text[self._at], "a number")

    def _pass_over(self) -> None:
        """Skip the object or array that begins at this place."""
        depth = 0
        while True:
            self._spend()
            found = _MARK.search(self._text, self._at)
            assert found is not None
            mark, self._at = found[0], found.end()
            if mark == '"':
                _, self._at = scanstring(self._text, self._at)
                continue
            depth += 1 if mark in "[{" else -1
            if depth == 0:
                return
