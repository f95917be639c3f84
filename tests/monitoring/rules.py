"""The alerting rules as data, and the same rules in a hurry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ALERTS", "PROMETHEUS", "alerts", "documents", "hurried", "rules"]

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "compose" / "docker" / "prometheus"
ALERTS = sorted((PROMETHEUS / "alerts").glob("*.yml"))
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\b(\d+)([smhd])\b")
_SECONDS_THRESHOLD = re.compile(r"(_seconds\)?\)? > |time\(\) - )(\d{2,})\b")
_JUDGED_AFTER = 25
"""Comparing is ten seconds behind by design, in whatever hurry the rules are."""


def documents() -> dict[Path, Any]:
    """Return each rule file's content."""
    return {path: yaml.safe_load(path.read_text("utf-8")) for path in ALERTS}


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule, recording and alerting."""
    for document in documents().values():
        for group in document["groups"]:
            yield from group["rules"]


def alerts() -> dict[str, dict[str, Any]]:
    """Return every alerting rule by its name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def hurried(text: str, *, by: int = 30, least: int = 4, most: int = 40) -> str:
    """Return a rule file with all its times shortened alike, and nothing else changed.

    Every duration (``for``, ``interval``, windows, offsets) and every threshold that is a number of
    seconds is divided by ``by``, and kept between ``least`` and ``most`` seconds; an age is not
    less than the comparison needs. Recorded names that end in their window keep it.
    """

    def short(seconds: float) -> int:
        return round(min(max(seconds / by, least), most))

    def threshold(match: re.Match[str]) -> str:
        seconds = short(int(match[2]))
        return f"{match[1]}{max(seconds, _JUDGED_AFTER) if 'time' in match[1] else seconds}"

    document = yaml.safe_load(text)
    for group in document["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            expr = _DURATION.sub(lambda m: f"{short(int(m[1]) * _SECONDS[m[2]])}s", rule["expr"])
            rule["expr"] = _SECONDS_THRESHOLD.sub(threshold, expr)
            for name in ("for", "keep_firing_for"):
                if name in rule:
                    match = _DURATION.fullmatch(rule[name])
                    assert match
                    rule[name] = f"{short(int(match[1]) * _SECONDS[match[2]])}s"
    return yaml.safe_dump(document, sort_keys=False)
