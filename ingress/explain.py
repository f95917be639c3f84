"""What exactly is wrong with a body, in the client's own terms. Slow, and only for bodies in doubt.

Every fault is reported at once, each with the field's name and the remedy, so that a client is not
sent through them one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from ingress.problems import INVALID, MALFORMED, FieldError, Problem
from ingress.requests import CONTENT_TYPE_LENGTH, ID_LENGTH, Limits

__all__ = ["explain", "field_problem", "malformed", "parse"]

_Check = Callable[[str, Any, Limits], list[FieldError]]


def explain(data: bytes, limits: Limits) -> Problem | None:
    """Return the problem with a message's JSON, or ``None`` if there is none after all."""
    try:
        value = parse(data)
    except Problem as problem:
        return problem
    errors = message_errors(value, limits)
    return field_problem(errors) if errors else None


def field_problem(errors: Sequence[FieldError]) -> Problem:
    """Return the problem that names the faulty fields."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(INVALID, f"{first.field}: {first.message}{more}", errors=errors)


def malformed(detail: str) -> Problem:
    """Return the problem of a body that can't be parsed at all."""
    return Problem(MALFORMED, detail)


def parse(data: bytes) -> Any:
    """Return the JSON value in ``data``.

    Raises:
        Problem: it is not JSON in UTF-8, is nested too deeply, or names a member twice.
    """
    try:
        # msgspec is the judge of well-formedness here as on the fast path, so the two agree.
        msgspec.json.decode(data)
        return json.loads(data, object_pairs_hook=_unambiguous, parse_int=_number)
    except UnicodeDecodeError as error:
        raise malformed(f"The body is not UTF-8: {error.reason}.") from error
    except RecursionError as error:
        raise malformed("The body is nested too deeply.") from error
    except msgspec.DecodeError as error:
        raise malformed(f"{error}.") from error


def _number(text: str) -> float:
    # No field is a number. int() of a long digit string is refused by Python itself; float is not.
    return float(text)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise malformed(f"The member {name[:64]!r} stands more than once in an object.")
            seen.add(name)
    return members


def message_errors(value: Any, limits: Limits) -> list[FieldError]:
    """Return everything wrong with a message given as plain JSON values."""
    if not isinstance(value, dict):
        return [
            FieldError("(body)", f"is {_kind_of(value)}, not an object", "Send one JSON object.")
        ]
    errors = [FieldError(name, "is missing", "Add it.") for name in _REQUIRED if name not in value]
    for name, member in value.items():
        check = _CHECKS.get(name)
        errors += check(name, member, limits) if check else [_unknown(name)]
    return errors


def _unknown(name: str) -> FieldError:
    near = get_close_matches(name, _CHECKS, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else f"Known fields: {', '.join(_CHECKS)}."
    return FieldError(name[:ID_LENGTH], "is not a known field", remedy)


def _id(name: str, value: Any, limits: Limits) -> list[FieldError]:  # noqa: ARG001 - one shape for all
    return _text(name, value, at_least=1, at_most=ID_LENGTH)


def _content_type(name: str, value: Any, limits: Limits) -> list[FieldError]:  # noqa: ARG001
    return _text(name, value, at_least=1, at_most=CONTENT_TYPE_LENGTH)


def _content(name: str, value: Any, limits: Limits) -> list[FieldError]:
    errors = _text(name, value, at_least=0, at_most=None)
    if not errors and len(value.encode()) > limits.content_bytes:
        errors.append(
            FieldError(
                name,
                f"is {len(value.encode())} bytes of UTF-8, more than {limits.content_bytes}",
                "Shorten it, or keep the payload elsewhere and send a reference.",
            )
        )
    return errors


def _recipients(name: str, value: Any, limits: Limits) -> list[FieldError]:
    if not isinstance(value, list):
        return [FieldError(name, f"is {_kind_of(value)}, not an array", "Send an array of ids.")]
    if len(value) > limits.recipients:
        message = f"has {len(value)} entries, more than {limits.recipients}"
        return [FieldError(name, message, "Address fewer recipients in one message.")]
    return [
        error
        for index, item in enumerate(value)
        for error in _text(f"{name}[{index}]", item, at_least=1, at_most=ID_LENGTH)
    ]


def _text(name: str, value: Any, *, at_least: int, at_most: int | None) -> list[FieldError]:
    if not isinstance(value, str):
        return [FieldError(name, f"is {_kind_of(value)}, not a string", "Send a JSON string.")]
    if len(value) < at_least:
        return [FieldError(name, "is empty", "Give it a value.")]
    if at_most is not None and len(value) > at_most:
        message = f"has {len(value)} characters, more than {at_most}"
        return [FieldError(name, message, f"Send at most {at_most} characters.")]
    if "\0" in value:
        return [FieldError(name, "holds U+0000", "Leave that character out.")]
    return []


def _kind_of(value: Any) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        float: "a number",
        type(None): "null",
    }
    return names[type(value)]


_REQUIRED = ("conversationId", "senderId", "content")
_CHECKS: dict[str, _Check] = {
    "conversationId": _id,
    "senderId": _id,
    "content": _content,
    "contentType": _content_type,
    "clientMessageId": _id,
    "recipientIds": _recipients,
}
