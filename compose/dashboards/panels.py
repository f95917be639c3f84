"""Turns short descriptions of panels into Grafana's dashboard JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

__all__ = ["Dashboard", "DashboardRow", "Panel", "Query", "ThresholdStep", "dashboard", "quantiles"]

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "table", "bargauge", "traces", "heatmap"]

_WIDTH = 24
_PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
_TRACES = {"type": "jaeger", "uid": "${traces}"}


class Query(msgspec.Struct, frozen=True):
    """One PromQL expression, in whose selectors ``@`` stands for the chosen job.

    ``legend`` names the series; ``exemplars`` shows links to traces.
    """

    expr: str
    legend: str = ""
    exemplars: bool = False


class ThresholdStep(msgspec.Struct, frozen=True):
    """Values from ``at`` up have the color ``color``."""

    at: float
    color: str


class Panel(msgspec.Struct, frozen=True):
    """One panel. ``description`` says what it shows, and its normal state."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query] = ()
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    steps: Sequence[ThresholdStep] = ()
    bounds: tuple[float | None, float | None] = (0, None)
    decimals: int | None = None
    names: dict[str, str] | None = None
    """Texts in place of values (``{"0": "redis"}``)."""
    stack: bool = False
    search: Json | None = None
    """The search of a panel of kind ``traces``."""


class DashboardRow(msgspec.Struct, frozen=True):
    """A row of the dashboard: a heading and its panels."""

    title: str
    panels: Sequence[Panel]


class Dashboard(msgspec.Struct, frozen=True):
    """One dashboard; ``uid`` is the last part of its URL and never changes."""

    uid: str
    title: str
    description: str
    rows: Sequence[DashboardRow]
    variables: Sequence[Json] = ()
    refresh: str = "10s"
    since: str = "now-1h"


def quantiles(histogram: str, *shares: float) -> tuple[Query, ...]:
    """Return a query for each of these quantiles of a histogram."""
    buckets = f"sum by (le) (rate({histogram}_bucket{{@}}[$__rate_interval]))"
    return tuple(
        Query(
            f"histogram_quantile({share}, {buckets})",
            f"p{share * 100:g}",
            exemplars=share == max(shares),  # only once: all quantiles have the same exemplars
        )
        for share in shares
    )


def dashboard(of: Dashboard) -> Json:
    """Return the dashboard in Grafana's format."""
    return {
        "uid": of.uid,
        "title": of.title,
        "description": of.description,
        "tags": ["crossfade"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": of.refresh,
        "time": {"from": of.since, "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), _job(), *of.variables]},
        "annotations": {"list": [_phases(), _alerts()]},
        "links": [
            {
                "title": "Crossfade",
                "type": "dashboards",
                "tags": ["crossfade"],
                "asDropdown": True,
                "keepTime": True,
            }
        ],
        "panels": _placed(of.rows),
    }


def _placed(rows: Sequence[DashboardRow]) -> list[Json]:
    """Return the panels with positions, side by side while there is room, and with ids."""
    made: list[Json] = []
    y = 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        made.append({"id": len(made) + 1, "gridPos": _place(0, y, _WIDTH, 1), **heading})
        y, x, tallest = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                y, x, tallest = y + tallest, 0, 0
            place = _place(x, y, panel.width, panel.height)
            made.append({"id": len(made) + 1, "gridPos": place, **_panel(panel)})
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return made


def _place(x: int, y: int, w: int, h: int) -> Json:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(of: Panel) -> Json:
    source = _TRACES if of.search is not None else _PROMETHEUS
    low, high = of.bounds
    defaults: Json = {
        "unit": of.unit,
        "custom": _drawn(of),
        "mappings": _mappings(of.names),
        "thresholds": {"mode": "absolute", "steps": _steps(of.steps)},
        "noValue": "no data",
    }
    optional = {"min": low, "max": high, "decimals": of.decimals}
    defaults |= {name: value for name, value in optional.items() if value is not None}
    if of.steps and of.kind == "timeseries":
        defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
    return {
        "type": "table" if of.search is not None and of.kind == "table" else of.kind,
        "title": of.title,
        "description": of.description,
        "datasource": source,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(of),
        "targets": _targets(of, source),
    }


def _targets(of: Panel, source: Json) -> list[Json]:
    if of.search is not None:
        return [{"refId": "A", "datasource": source, **of.search}]
    table = of.kind in {"stat", "bargauge", "table"}
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": source,
            "expr": query.expr.replace("@", 'job=~"$job"'),
            "legendFormat": query.legend or "__auto",
            "editorMode": "code",
            "exemplar": query.exemplars,
            "range": not table,
            "instant": table,
            **({"format": "table"} if of.kind == "table" else {}),
        }
        for number, query in enumerate(of.queries)
    ]


def _drawn(of: Panel) -> Json:
    if of.kind != "timeseries":
        return {}
    drawn: Json = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if of.stack:
        drawn["stacking"] = {"mode": "normal", "group": "A"}
    return drawn


def _options(of: Panel) -> Json:
    if of.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if of.kind in {"stat", "bargauge"}:
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background" if of.steps else "none",
            "graphMode": "none",
            "textMode": "auto",
        }
    return {}


def _steps(steps: Sequence[ThresholdStep]) -> list[Json]:
    base = [] if steps and steps[0].at == float("-inf") else [{"color": "green", "value": None}]
    return base + [
        {"color": step.color, "value": None if step.at == float("-inf") else step.at}
        for step in steps
    ]


def _mappings(names: dict[str, str] | None) -> list[Json]:
    if not names:
        return []
    options = {value: {"text": text, "index": n} for n, (value, text) in enumerate(names.items())}
    return [{"type": "value", "options": options}]


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }


def _job() -> Json:
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": _PROMETHEUS,
        "query": {"query": "label_values(crossfade_build_info, job)", "refId": "job"},
        "definition": "label_values(crossfade_build_info, job)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }


def _annotation(name: str, color: str, expr: str, title: str) -> Json:
    return {
        "name": name,
        "datasource": _PROMETHEUS,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "titleFormat": title,
        "step": "15s",
    }


def _phases() -> Json:
    changed = 'changes(migration_phase{job=~"$job"}[1m]) > 0'
    return _annotation(
        "Phase changes", "purple", f"max({changed})", "The crossfade's phase changed"
    )


def _alerts() -> Json:
    firing = 'ALERTS{alertstate="firing",alertname!~"Watchdog"}'
    return _annotation("Alerts", "red", firing, "{{alertname}}")
