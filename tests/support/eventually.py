"""Wait for a condition, with a deadline; never for a while."""

from __future__ import annotations

from compose.harness.eventually import eventually

__all__ = ["eventually"]
