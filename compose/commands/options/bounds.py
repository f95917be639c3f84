"""The largest numbers that an option takes, as PostgreSQL keeps them."""

from __future__ import annotations

__all__ = ["LARGEST_ID", "LARGEST_INTEGER"]

LARGEST_ID = 2**63 - 1  # PostgreSQL's bigint
LARGEST_INTEGER = 2**31 - 1  # and its integer
