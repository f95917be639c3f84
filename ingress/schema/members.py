"""A JSON object read member by member, no further than it has to be.

``json.loads`` builds everything that a text holds: a million members, or a third of a million empty
arrays, take a second, and other requests wait. Here names and strings are read one by one, the
inside of anything else is passed over, and past a number of tokens the reading ends. A message that
can be accepted never has that many.
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
    """A member's value that is neither text nor an array: only its kind, such as ``a number``."""

    kind: str


class Array(NamedTuple):
    """The items of an array: the ``whole`` of them, or those read before the reading ended."""

    items: list[str | Other]
    whole: bool


Value = str | Array | Other


class _EndedError(Exception):
    """The tokens are used up."""


class Members:
    """Reads the members of ``text``, a well-formed JSON object.

    ``tokens`` bounds the work: each name, string, bracket and scalar is one.
    """

    def __init__(self, text: str, *, tokens: int) -> None:
        self._text = text
        self._left = tokens
        self._at = 0
        self.cut = False
        """Whether the reading ended before the object did."""

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        """Yield each name with its value; the last value may be the beginning of one (``cut``).

        Raises:
            JSONDecodeError: a string is not well-formed.
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
        """Go past so many characters after the white space here, and the white space after them."""
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
        """Read the value here; where the tokens end in it, what there is of it."""
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
        """Read a string; pass over anything else."""
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
        """Go to the end of the object or array that begins here."""
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
