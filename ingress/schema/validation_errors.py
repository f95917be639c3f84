"""Explanations of invalid bodies. This is slow, and only for bodies that may be invalid.

Faults are reported together, each with the field's name and the remedy, so that a client need not
find them one by one. Their number is bounded: a body with a million faults is answered as quickly,
and as briefly, as a body with twenty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from json import JSONDecodeError

import msgspec

from ingress.schema.json_faults import SHOWN, json_fault, malformed, mended, repeated
from ingress.schema.members import Array, Members, Other, Value
from ingress.schema.problems import INVALID, FieldError, Problem
from ingress.schema.requests import ID_LENGTH, MessageRequest, RequestLimits

__all__ = ["MOST_ERRORS", "explain", "field_problem"]

MOST_ERRORS = 20
"""The most errors that are listed for one message, or for one request to another route."""

_COUNTED = 100
"""The most errors that are counted; past it the text says "at least"."""
_TOKENS = 1_000
"""The most names, strings and brackets to read, beside the recipients that a message may have."""
_SUGGESTED = 32
"""The longest unknown name that gets a suggestion: the search takes the square of its length."""

_AS_TEXT = "Send a string; JSON or other data goes into it as text, and contentType names its kind."

_WHOLE = "Send whole characters; JavaScript's slice() can cut an emoji into two such halves."
_HALF = re.compile("[\ud800-\udfff]")

_Check = Callable[[str, Value, RequestLimits], Iterator[FieldError]]


def explain(data: bytes, limits: RequestLimits, most: int = MOST_ERRORS) -> Problem | None:
    """Return the problem with a message's JSON, or ``None`` if there is none after all.

    The problem lists at most ``most`` errors, and says how many more there are.
    """
    if fault := json_fault(data):
        whole = mended(data)
        if whole == data or json_fault(whole):
            return fault
    try:
        return _check_fields(data.decode(), limits, most)
    except JSONDecodeError as error:
        return malformed(f"{error}.")


def field_problem(
    errors: Sequence[FieldError], *, total: int | None = None, or_more: bool = False
) -> Problem:
    """Return the problem that names the faulty fields.

    Args:
        errors: The faults, or the first of them.
        total: The number of all faults, if ``errors`` are only the first.
        or_more: Whether the count stopped before the end, so that there may be more than ``total``.
    """
    first = errors[0]
    more = (len(errors) if total is None else total) - 1
    said = ""
    if more:
        said = f" (and {'at least ' * or_more}{more} more)"
    return Problem(INVALID, f"{first.field}: {first.message}{said}", errors=errors)


class _Faults:
    """Collects the first ``most`` errors, and counts all up to 100."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.listed: list[FieldError] = []
        self.count = 0

    def add(self, errors: Iterator[FieldError]) -> None:
        for error in errors:
            self.count += 1
            if len(self.listed) < self.most:
                self.listed.append(error)
            if self.count >= _COUNTED:
                return


def _check_fields(text: str, limits: RequestLimits, most: int) -> Problem | None:
    """Return the problem with the fields of a well-formed JSON text, or ``None``."""
    first = text.lstrip(" \t\n\r")[:1]
    if first != "{":
        kind = {"[": "an array", '"': "a string", "n": "null", "t": "a boolean", "f": "a boolean"}
        error = FieldError(
            "(body)",
            f"is {kind.get(first, 'a number')}, not an object",
            "Send one JSON object; an array of messages goes to /api/messages:batch.",
        )
        return field_problem([error])
    members = Members(text, tokens=limits.recipients + _TOKENS)
    faults = _Faults(most)
    seen: set[str] = set()
    cut = False
    for name, value in members:
        if name in seen:
            return repeated(name)
        seen.add(name)
        check = _CHECKS.get(name)
        if check is not None:
            faults.add(check(name, value, limits))
        else:
            faults.add(_unknown(name, suggest=len(faults.listed) < most))
        if faults.count >= _COUNTED:
            cut = True
            break
    cut = cut or members.cut
    if not cut:
        missing = [
            FieldError(name, "is missing", "Add it.") for name in _REQUIRED if name not in seen
        ]
        faults.listed = (missing + faults.listed)[:most]
        faults.count += len(missing)
    if not faults.listed:
        return None
    return field_problem(faults.listed, total=faults.count, or_more=cut)


def _unknown(name: str, *, suggest: bool) -> Iterator[FieldError]:
    near = get_close_matches(name, _CHECKS, n=1) if suggest and len(name) <= _SUGGESTED else []
    remedy = f"Did you mean {near[0]!r}?" if near else f"Known fields: {', '.join(_CHECKS)}."
    shown = name[:SHOWN].encode("utf-8", "backslashreplace").decode()  # half a pair as \\ud83d
    yield FieldError(shown, "is not a known field", remedy)


def _content(name: str, value: Value, limits: RequestLimits) -> Iterator[FieldError]:
    if not isinstance(value, str) and value != Other("null"):
        yield FieldError(name, f"is {_kind_of(value)}, not a string", _AS_TEXT)
        return
    errors = list(_text(name, value, at_least=0, at_most=None))
    yield from errors
    if not errors and isinstance(value, str):
        size = len(value.encode())
        if size > limits.content_bytes:
            yield FieldError(
                name,
                f"is {size} bytes of UTF-8, more than {limits.content_bytes}",
                "Shorten it, or send multipart/form-data, where a payload store is set.",
            )


def _recipients(name: str, value: Value, limits: RequestLimits) -> Iterator[FieldError]:
    if not isinstance(value, Array):
        yield _other_kind(name, value, "an array", "Send an array of ids")
        return
    if len(value.items) > limits.recipients:
        counted = f"{len(value.items)} entries, " if value.whole else ""
        message = f"has {counted}more than {limits.recipients}"
        yield FieldError(name, message, "Address fewer recipients in one message.")
        return
    for index, item in enumerate(value.items):
        yield from _text(f"{name}[{index}]", item, at_least=1, at_most=ID_LENGTH)


def _text(name: str, value: Value, *, at_least: int, at_most: int | None) -> Iterator[FieldError]:
    if not isinstance(value, str):
        yield _other_kind(name, value, "a string", "Send a JSON string")
        return
    if len(value) < at_least:
        yield FieldError(name, "is empty", "Give it a value.")
    elif at_most is not None and len(value) > at_most:
        message = f"has {len(value)} characters, more than {at_most}"
        yield FieldError(name, message, f"Send at most {at_most} characters.")
    elif "\0" in value:
        yield FieldError(name, "holds U+0000", "Leave that character out.")
    elif not value.isascii() and _HALF.search(value):
        yield FieldError(name, "holds half of a surrogate pair", _WHOLE)


def _other_kind(name: str, value: Value, wanted: str, remedy: str) -> FieldError:
    """Return the error of a value of another kind than ``wanted``.

    Many libraries write a field that was not set as null: the remedy says if it may be left out.
    """
    kind = _kind_of(value)
    if kind == "null" and name in _WITH_DEFAULT:
        remedy += ", or leave the field out"
    return FieldError(name, f"is {kind}, not {wanted}", f"{remedy}.")


def _kind_of(value: Value) -> str:
    match value:
        case str():
            return "a string"
        case Other(kind):
            return kind
        case _:
            return "an array"


def _text_check(name: str, kind: msgspec.inspect.Type) -> _Check:
    """Return the check of a text field, with the length limits of its type in the struct."""
    while not isinstance(kind, msgspec.inspect.StrType):
        # The text's type is inside a union with UNSET, or inside a type with a description.
        if not isinstance(kind, msgspec.inspect.UnionType | msgspec.inspect.Metadata):
            raise TypeError(f"{name} is no text: give it a check in _OWN_CHECKS")
        kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind.types[0]
    at_least, at_most = kind.min_length or 0, kind.max_length

    def check(name: str, value: Value, limits: RequestLimits) -> Iterator[FieldError]:  # noqa: ARG001 - one shape for all
        return _text(name, value, at_least=at_least, at_most=at_most)

    return check


_STRUCT = msgspec.inspect.type_info(MessageRequest)
assert isinstance(_STRUCT, msgspec.inspect.StructType)
_REQUIRED = [field.encode_name for field in _STRUCT.fields if field.required]
_WITH_DEFAULT = {field.encode_name for field in _STRUCT.fields if not field.required}
_WITH_DEFAULT -= {"clientMessageId"}  # without it, the Idempotency-Key header has to be sent
_OWN_CHECKS: dict[str, _Check] = {"content": _content, "recipientIds": _recipients}
"""The checks of the fields that are no text, or whose limit is a setting."""
_CHECKS = {
    field.encode_name: _OWN_CHECKS.get(field.encode_name)
    or _text_check(field.encode_name, field.type)
    for field in _STRUCT.fields
}
