"""Poll until a condition holds, or a deadline passes."""

from __future__ import annotations

from compose.harness.eventually import eventually

__all__ = ["eventually"]
