"""Explanations of bodies that are not well-formed JSON in UTF-8.

The decoder says at most which byte is wrong. A client's author needs the cause, and there are few:
no body, a byte order mark, a value that JSON does not have such as ``NaN``, or half of a surrogate
pair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ingress.schema.problems import MALFORMED, Problem

__all__ = ["SHOWN", "check_json", "json_fault", "malformed", "mended", "repeated"]

SHOWN = 64
"""The most characters of a member's name that an error text repeats."""
_EMPTY = "The body is empty; send JSON."
_DEEP = "The body is nested too deeply."
_MARK = "The body begins with a byte order mark, which JSON does not have; leave it out."
_HALF = "A text holds half of a surrogate pair, which is no character; send whole characters."
_CUT = "The JSON ends before it is complete."
_BOM = b"\xef\xbb\xbf"
_AT = re.compile(r"\(byte (\d+)\)$")
_WORD = re.compile(rb"[A-Za-z_]{1,16}")
# An escaped half of a surrogate pair, without its other half beside it.
_HALVES = re.compile(
    rb"\\u[Dd](?:[89ABab][0-9A-Fa-f]{2}(?!\\u[Dd][C-Fc-f][0-9A-Fa-f]{2})"
    rb"|[C-Fc-f][0-9A-Fa-f]{2}(?<!\\u[Dd][89ABab]..\\u[Dd]...))",
    re.DOTALL,
)
_MENDED = 1_000
"""The most halves to replace in one text."""
# msgspec decides on all routes whether JSON is well-formed, so that they agree. It skips a value
# without building it: 16 MiB take 10 to 30 ms.
_judge = msgspec.json.Decoder(msgspec.Raw).decode


def malformed(detail: str) -> Problem:
    """Return the problem for a body that can't be parsed (400)."""
    return Problem(MALFORMED, detail)


def repeated(name: str) -> Problem:
    """Return the problem for an object that has a member twice (400)."""
    return malformed(f"The member {name[:SHOWN]!r} stands more than once in an object.")


def json_fault(data: bytes) -> Problem | None:
    """Return the problem with ``data``, or ``None`` if it is well-formed JSON in UTF-8."""
    try:
        data.decode()
        _judge(data)
    except UnicodeDecodeError as error:
        return malformed(f"The body is not UTF-8: {error.reason}.")
    except RecursionError:
        return malformed(_DEEP)
    except msgspec.DecodeError as error:
        return malformed(_cause(data, str(error)))
    return None


def mended(data: bytes) -> bytes:
    """Return ``data`` with U+FFFD for each escaped half of a surrogate pair, in the same length.

    JSON may have such halves (RFC 8259, section 8.2), and the decoder refuses them. Without them,
    it finds the field or the message at fault. No more than 1,000 are replaced.
    """
    return _HALVES.sub(_replacement, data, count=_MENDED)


def _replacement(half: re.Match[bytes]) -> bytes:
    before = half.string[max(0, half.start() - SHOWN) : half.start()]
    escaped = (len(before) - len(before.rstrip(b"\\"))) % 2  # this backslash is a character
    return half[0] if escaped else b"\\ufffd"


def check_json(data: bytes) -> None:
    """Refuse a body that is not JSON, or has an object with the same member twice.

    This builds every value, so it is only for the short bodies of routes outside the hot path.

    Raises:
        Problem: The body is malformed (400).
    """
    if fault := json_fault(data):
        raise fault
    try:
        json.loads(data, object_pairs_hook=_once)
    except RecursionError:
        raise malformed(_DEEP) from None
    except ValueError:  # Python refuses to convert numbers of thousands of digits
        raise malformed("A number has too many digits.") from None


def _once(pairs: Sequence[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise repeated(name)
        seen.add(name)


def _cause(data: bytes, said: str) -> str:
    if not data.strip(b" \t\r\n"):
        return _EMPTY
    if data.startswith(_BOM):
        return _MARK
    if "surrogate" in said or "hex escape" in said:
        return _HALF
    if said == "Input data was truncated":
        return _HALF if mended(data) != data else _CUT
    found = _AT.search(said)
    word = _WORD.match(data, int(found[1])) if found and "invalid character (" in said else None
    if found and word:
        return f"JSON has no value {word[0].decode()} (byte {found[1]})."
    return f"{said}."
