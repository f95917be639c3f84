"""Support for msgspec structs as answers of FastAPI's routes.

FastAPI asks pydantic for a type's schema, and pydantic asks the type itself. The schema here has
only the name of a component; ``ingress.openapi.documents`` lets msgspec write the component.
"""

from __future__ import annotations

from typing import Any, Self

import msgspec
from pydantic_core import CoreSchema, core_schema

__all__ = ["AS_ANSWER", "ApiStruct"]


def _schema(kind: type) -> CoreSchema:
    return core_schema.any_schema(
        ref=f"{kind.__module__}.{kind.__qualname__}:{id(kind)}",
        serialization=core_schema.plain_serializer_function_ser_schema(msgspec.to_builtins),
    )


class _AsAnswer:
    def __get_pydantic_core_schema__(self, source: type, _handler: Any) -> CoreSchema:
        return _schema(source)


AS_ANSWER = _AsAnswer()
"""Marks a struct of another package as a route's answer: ``Annotated[Progress, AS_ANSWER]``."""


class ApiStruct(msgspec.Struct, frozen=True, rename="camel"):
    """Base class of answers of FastAPI's routes. Names are in camel case on the wire."""

    @classmethod
    def of(cls, thing: object) -> Self:
        """Return an answer made of an object of another package, by its attributes' names."""
        return msgspec.convert(thing, cls, from_attributes=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: type, _handler: Any) -> CoreSchema:
        return _schema(cls)
