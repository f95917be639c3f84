"""The language of the programs that we start: their messages are searched for known errors."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["in_english"]


def in_english(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with messages in English, and characters as they were.

    Java and PostgreSQL translate the system's errors, such as "Address already in use".
    """
    characters = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG")
    kept = {name: value for name, value in environment.items() if name != "LC_ALL"}
    return {**kept, "LC_CTYPE": characters or "C", "LC_MESSAGES": "C"}
