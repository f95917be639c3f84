"""Types of JSON texts and numbers, each with its part of the JSON Schema."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Id", "Small", "Time", "known"]

Id = Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]
Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A time of this service's own: RFC 3339, UTC."""
Small = Annotated[int, msgspec.Meta(extra_json_schema={"format": "int32"})]
"""A number that fits into 32 bits."""


def known(*values: str) -> msgspec.Meta:
    """Return the schema of a text that is one of ``values`` today; later versions may add some."""
    words = [str(value) for value in values]
    return msgspec.Meta(
        description=f"{', '.join(words)}; a later version may have others.",
        extra_json_schema={"x-extensible-enum": words, "example": words[0]},
    )
