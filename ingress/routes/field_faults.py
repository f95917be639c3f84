"""The translation of pydantic's faults of bodies, paths and queries to this service's errors."""

from __future__ import annotations

from typing import Any

from ingress.routes.models import UUID_PATTERN
from ingress.schema.problems import FieldError

__all__ = ["field_fault"]

_LONGEST_NAME = 256
_ANY_OTHER = ("{msg}", "Send what the API description asks for (/docs).")
_NOT_WHOLE = ("is not a whole number", "Send a whole number.")
_NO_OBJECT = ("is {kind}, not an object", "Send one JSON object.")
_NO_CHOICE = ("is not a known value", "Send {expected}.")
_EMPTY = ("is empty", "Give it a value.")
_NUL = ("holds U+0000", "Leave that character out.")
_NO_MESSAGE_ID = (
    "is not a message id",
    "Send the messageId of an acknowledgement: a UUID with its four hyphens.",
)
_WORDS = {
    "missing": ("is missing", "Add it."),
    "extra_forbidden": ("is not a known field", "Leave it out, or correct its name (/docs)."),
    "string_type": ("is {kind}, not a string", "Send a JSON string."),
    "string_too_long": (
        "has {length} characters, more than {max_length}",
        "Send at most {max_length} characters.",
    ),
    "int_type": _NOT_WHOLE,
    "int_parsing": _NOT_WHOLE,
    "int_from_float": _NOT_WHOLE,
    "greater_than_equal": ("is less than {ge}", "Send {ge} or more."),
    "less_than_equal": ("is more than {le}", "Send at most {le}."),
    "model_type": _NO_OBJECT,
    "model_attributes_type": _NO_OBJECT,
    "list_type": ("is {kind}, not an array", "Send a JSON array."),
    "literal_error": _NO_CHOICE,
    "enum": _NO_CHOICE,
}
"""Message and remedy by pydantic's name of the fault. Braces stand for values of its rule."""


def field_fault(fault: dict[str, Any]) -> FieldError:
    """Return the error for one fault out of ``RequestValidationError.errors``."""
    where = fault["loc"][1:]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    value, rule = fault.get("input"), fault.get("ctx", {})
    shown = {
        **rule,
        "msg": fault["msg"].removeprefix("Value error, "),
        "kind": _kind_of(value),
        "length": len(value) if isinstance(value, str) else 0,
    }
    message, remedy = (words.format_map(shown) for words in _words(fault["type"], value, rule))
    return FieldError(name.lstrip(".")[:_LONGEST_NAME] or "(body)", message, remedy)


def _words(kind: str, value: Any, rule: dict[str, Any]) -> tuple[str, str]:
    if kind == "string_too_short" and not value:
        return _EMPTY
    if kind == "string_pattern_mismatch" and rule["pattern"] == UUID_PATTERN:
        return _NO_MESSAGE_ID
    if kind == "string_pattern_mismatch" and "\0" in value:
        return _NUL
    return _WORDS.get(kind, _ANY_OTHER)


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
