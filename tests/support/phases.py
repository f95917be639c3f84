"""The settings of each phase of the first migration, by number."""

from __future__ import annotations

from persistence.fleet.log_choice import FIRST_PAIR, choices

__all__ = ["CHOICES"]

CHOICES = choices(FIRST_PAIR)
