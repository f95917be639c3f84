"""``python -m compose.dashboards``: writes each dashboard's JSON to the folder for Grafana."""

from __future__ import annotations

import json
from pathlib import Path

from compose.dashboards.migration import MIGRATION
from compose.dashboards.panels import Dashboard, dashboard
from compose.dashboards.queue.queue import QUEUE
from compose.dashboards.traces import TRACES

__all__ = ["ALL", "FOLDER", "text"]

FOLDER = Path(__file__).parents[1] / "docker" / "grafana" / "dashboards"
ALL = (QUEUE, MIGRATION, TRACES)


def text(of: Dashboard) -> str:
    """Return the dashboard's JSON, indented so that versions can be compared line by line."""
    return json.dumps(dashboard(of), indent=2) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for board in ALL:
        (FOLDER / f"{board.uid}.json").write_text(text(board), "utf-8")
