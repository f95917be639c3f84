"""Parses a page of metrics."""

from __future__ import annotations

import math
import re

import httpx

__all__ = ["Page", "fetch"]

_SAMPLE = re.compile(
    r"^(?P<name>[a-z_:][a-z0-9_:]*)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)", re.IGNORECASE
)


class Page:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        matches = (_SAMPLE.match(line) for line in text.splitlines())
        self._samples = [
            (m["name"], m["labels"] or "", float(m["value"])) for m in matches if m is not None
        ]

    def total(self, name: str) -> float:
        """Return the sum of a metric over all labels."""
        return sum(value for sample, _, value in self._samples if sample == name)

    def labelled(self, name: str, label: str) -> float:
        """Return the sum of a metric's samples whose labels contain ``label``."""
        return sum(
            value for sample, labels, value in self._samples if sample == name and label in labels
        )

    def largest(self, name: str) -> float:
        """Return the largest of a metric's samples; 0.0 without samples."""
        return max((value for sample, _, value in self._samples if sample == name), default=0.0)

    def buckets(self, name: str) -> dict[float, float]:
        """Return a histogram's cumulative counts by upper bound, over all other labels."""
        found: dict[float, float] = {}
        for sample, labels, value in self._samples:
            if sample == f"{name}_bucket" and (le := re.search(r'le="([^"]+)"', labels)):
                bound = math.inf if le[1] == "+Inf" else float(le[1])
                found[bound] = found.get(bound, 0.0) + value
        return dict(sorted(found.items()))

    def quantile_bound(self, name: str, share: float) -> float:
        """Return the upper bound of the bucket that has the quantile ``share``."""
        buckets = self.buckets(name)
        total = max(buckets.values(), default=0.0)
        return next((b for b, count in buckets.items() if count >= share * total), math.inf)


async def fetch(port: int) -> Page:
    """Scrape ``/metrics`` on this machine."""
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"http://127.0.0.1:{port}/metrics")
    return Page(response.raise_for_status().text)
