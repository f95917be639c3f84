"""The dashboards as they are committed, panel by panel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from compose.dashboards.__main__ import ALL, FOLDER

__all__ = ["boards", "concrete", "panels", "queries"]

Json = dict[str, Any]


def boards() -> dict[str, Json]:
    """Return each dashboard's JSON by its uid."""
    return {
        dashboard.uid: json.loads((FOLDER / f"{dashboard.uid}.json").read_text("utf-8"))
        for dashboard in ALL
    }


def panels() -> Iterator[tuple[str, Json]]:
    """Yield every panel that shows something, with its dashboard's uid."""
    for uid, board in boards().items():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield uid, panel


def queries() -> list[tuple[str, str]]:
    """Return every Prometheus query, and where it stands."""
    return [
        (f"{uid}: {panel['title']} {target['refId']}", target["expr"])
        for uid, panel in panels()
        for target in panel["targets"]
        if "expr" in target
    ]


def concrete(expression: str, *, job: str = ".+", interval: str = "1m") -> str:
    """Return a query with Grafana's variables replaced, as Grafana would."""
    return expression.replace("$__rate_interval", interval).replace("$job", job)
