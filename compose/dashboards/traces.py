"""The dashboard "Crossfade: Traces": finds a trace by correlation id, or from a slow point."""

from __future__ import annotations

from typing import Any

from compose.dashboards.panels import Dashboard, DashboardRow, Panel, Query, quantiles

__all__ = ["TRACES"]


def _search(**what: Any) -> dict[str, Any]:
    return {"queryType": "search", "service": "$service", "limit": 50, **what}


def _text(name: str, label: str, value: str = "") -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "textbox",
        "query": value,
        "current": {"text": value, "value": value},
        "hide": 0,
    }


_VARIABLES = (
    {
        "name": "traces",
        "label": "Traces",
        "type": "datasource",
        "query": "jaeger",
        "current": {},
        "hide": 0,
    },
    _text("service", "Service", "crossfade"),
    _text("correlation", "Correlation id"),
    _text("trace", "Trace id"),
)

_FIND = DashboardRow(
    "Find a message",
    (
        Panel(
            "Traces of the Correlation Id",
            "Every trace with the correlation id above: the POST, and each redrive later on. A row "
            "leads to its trace.",
            "short",
            kind="table",
            width=12,
            search=_search(tags="messaging.message.conversation_id=$correlation"),
        ),
        Panel(
            "Trace",
            "The trace whose id is above: HTTP, both appends, every delivery, the insert.",
            "short",
            kind="traces",
            width=12,
            height=14,
            search={"query": "$trace"},
        ),
        Panel(
            "Slow Traces",
            "Traces of more than a quarter of a second.",
            "short",
            kind="table",
            width=12,
            search=_search(minDuration="250ms"),
        ),
        Panel(
            "Failed Traces",
            "Traces with a span that failed: an append without an answer, an attempt that was "
            "refused.",
            "short",
            kind="table",
            width=12,
            search=_search(tags="error=true"),
        ),
    ),
)

_POINTS = DashboardRow(
    "From a point to its trace (each diamond is one sampled message)",
    (
        Panel(
            "Acknowledgement Time of Sampled Messages",
            "From handing a message in to its verdict. A diamond leads to the trace of one.",
            "s",
            quantiles("ingress_ack_duration_seconds", 0.5, 0.99),
        ),
        Panel(
            "Processing Duration of Sampled Messages",
            "From delivery to the commit. A diamond leads to the trace of one.",
            "s",
            quantiles("stream_processing_duration_seconds", 0.5, 0.99),
        ),
        Panel(
            "Time to Row of Sampled Messages",
            "From acceptance to the committed row. A diamond leads to the trace of one.",
            "s",
            quantiles("message_persist_latency_seconds", 0.5, 0.99),
        ),
        Panel(
            "Dead Letters",
            "Records dead-lettered. A diamond leads to the trace of one.",
            "mps",
            (
                Query(
                    "sum by (reason) (rate(stream_dead_letter_total{@}[$__rate_interval]))",
                    "{{reason}}",
                    exemplars=True,
                ),
            ),
        ),
    ),
)

_EXPORT = DashboardRow(
    "What reaches the collector",
    (
        Panel(
            "Spans Exported",
            "Spans a second that an exporter has taken.",
            "short",
            (Query("sum(rate(trace_spans_exported_total{@}[$__rate_interval]))", "exported"),),
        ),
        Panel(
            "Spans Lost",
            "Spans a second that did not reach the collector: the queue was full, an export "
            "failed, or a process ended.",
            "short",
            (
                Query(
                    "sum by (reason) (rate(trace_spans_dropped_total{@}[$__rate_interval]))",
                    "{{reason}}",
                ),
            ),
        ),
    ),
)

TRACES = Dashboard(
    "crossfade-traces",
    "Crossfade: Traces",
    "Where was a message? Find it by its correlation id, or start from a slow point.",
    (_FIND, _POINTS, _EXPORT),
    _VARIABLES,
)
