"""Iteration over the operations of a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["operations"]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation, in the document's order."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation
