"""What a PromQL expression asks for, and what there is to be asked for."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import promql_parser as promql
from prometheus_client import Counter, Gauge

from compose.process.metrics import process_metrics
from otel.latency import LatencyHistogram
from otel.runtime import LoopDelay, observe_process
from otel.tracing.sdk.queue import SpanCounts

__all__ = ["FROM_PROMETHEUS", "Known", "Selected", "faults", "known", "selected"]

FROM_PROMETHEUS = {"ALERTS", "up"}
_TARGET = {"job", "instance", "role"}
_OVER_COUNTERS = {"rate", "increase", "irate", "resets"}
_OVER_RANGES = {*_OVER_COUNTERS, "changes", "delta", "max_over_time", "min_over_time"}


class Known(msgspec.Struct, frozen=True):
    """One series that a process serves."""

    counter: bool
    labels: set[str]


class Selected(msgspec.Struct, frozen=True):
    """One selector in an expression, and the functions it stands in, innermost first."""

    name: str
    matched: set[str]
    inside: tuple[str, ...]
    by: set[str]
    """The labels by which an aggregation around it groups."""


def known() -> dict[str, Known]:
    """Return every series of a process by its name."""
    metrics = process_metrics()
    observe_process(metrics)
    LoopDelay(metrics)
    SpanCounts(metrics.registry)  # only where tracing is on
    found: dict[str, Known] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:  # those of the client library's own collectors
            found[sample.name] = Known(family.type == "counter", set(sample.labels))
    for metric in (value for room in metrics.rooms.values() for value in vars(room).values()):
        if isinstance(metric, LatencyHistogram):
            (family,) = metric.collect()
            found[f"{family.name}_bucket"] = Known(True, {"le"})
            found |= {f"{family.name}_{part}": Known(True, set()) for part in ("sum", "count")}
        elif isinstance(metric, (Counter, Gauge)):
            (family,) = metric.describe()
            counts = isinstance(metric, Counter)
            labels = set(getattr(metric, "_labelnames", ()))
            found[f"{family.name}_total" if counts else family.name] = Known(counts, labels)
    return found


def selected(expression: str) -> Iterator[Selected]:
    """Yield every selector of ``expression``. Raises ``ValueError`` where it is no PromQL."""
    yield from _walk(promql.parse(expression), (), set())


def _walk(node: promql.Expr, inside: tuple[str, ...], by: set[str]) -> Iterator[Selected]:
    match node:
        case promql.VectorSelector():
            matched = {matcher.name for matcher in node.matchers.matchers}
            yield Selected(node.name, matched, inside, by)
        case promql.MatrixSelector():
            yield from _walk(node.vector_selector, inside, by)
        case promql.Call():
            for argument in node.args:
                yield from _walk(argument, (node.func.name, *inside), by)
        case promql.AggregateExpr():
            grouped = set(node.modifier.labels) if node.modifier else set()
            yield from _walk(node.expr, inside, by | grouped)
        case promql.BinaryExpr():
            yield from _walk(node.lhs, inside, by)
            yield from _walk(node.rhs, inside, by)
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            yield from _walk(node.expr, inside, by)


def faults(expression: str, there: dict[str, Known], *, recorded: set[str]) -> list[str]:
    """Return the faults of an expression's selectors: unknown names, labels, raw counters."""
    found = []
    for selector in selected(expression):
        if selector.name in FROM_PROMETHEUS | recorded:
            continue
        if selector.name not in there:
            found.append(f"no process serves {selector.name}")
            continue
        series = there[selector.name]
        innermost = selector.inside[0] if selector.inside else ""
        if series.counter and innermost not in _OVER_COUNTERS | {"changes"}:
            found.append(f"{selector.name} is a counter: take its rate()")
        if not series.counter and innermost in _OVER_COUNTERS:
            found.append(f"{selector.name} is no counter: {innermost}() of it means nothing")
        if unknown := (selector.matched | selector.by) - series.labels - _TARGET - {"phase"}:
            found.append(f"{selector.name} has no label {', '.join(sorted(unknown))}")
    return found
