"""Batch-level counting gives what counting each record would have given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.registry import Collector

from otel.latency import BOUNDS, LatencyHistogram
from persistence.worker.batch.batch_size import AdaptiveBatchSize


def ours() -> LatencyHistogram:
    return LatencyHistogram("h", "…", registry=CollectorRegistry())


def the_librarys() -> Histogram:
    return Histogram("h", "…", buckets=BOUNDS, registry=CollectorRegistry())


def samples(of: Collector) -> list[tuple[str, str, object]]:
    """Return the samples; a sum of many values may differ in its last digits."""
    return [
        (sample.name, sample.labels.get("le", ""), pytest.approx(sample.value, rel=1e-12))
        for metric in of.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]


@given(st.lists(st.one_of(st.floats(0, 5000), st.sampled_from(BOUNDS)), max_size=50))
def test_observing_all_at_once_is_observing_each(values):
    at_once, each = ours(), the_librarys()
    at_once.observe_all(values)
    for value in values:
        each.observe(value)
    assert samples(at_once) == samples(each)


def test_observing_a_value_many_times():
    at_once, each = ours(), the_librarys()
    at_once.observe(0.01, 7)
    for _ in range(7):
        each.observe(0.01)
    assert samples(at_once) == samples(each)


def test_one_that_is_traced_leaves_its_exemplar_in_its_bucket():
    of = ours()
    of.observe_all([0.5, 0.002], traced=(0.002, "a" * 32))
    of.observe(0.05, 3, trace_id="b" * 32)
    found = {
        sample.labels["le"]: sample.exemplar.labels
        for metric in of.collect()
        for sample in metric.samples
        if sample.exemplar
    }
    assert found == {"0.0025": {"trace_id": "a" * 32}, "0.05": {"trace_id": "b" * 32}}


def test_a_clock_that_is_behind_counts_as_no_time():
    behind = ours()
    behind.observe_all([-3.0])
    assert ("h_sum", "", 0.0) in samples(behind)
    assert behind.counts[0] == 1


def test_the_batch_size_shrinks_when_batches_get_slow_and_recovers():
    pace = AdaptiveBatchSize(500)
    for _ in range(10):
        pace.took(pace.size, pace.size * 0.1)
    assert pace.size == 10
    pace.took(3, 0.01)  # quick because it was small: says nothing of larger ones
    assert pace.size == 10
    for _ in range(10):
        pace.took(pace.size, 0.01)
    assert pace.size == 500


def test_the_batch_size_does_not_shrink_where_a_smaller_batch_takes_as_long():
    pace = AdaptiveBatchSize(500)
    pace.took(500, 2.0)
    assert pace.size == 250
    for seconds in (1.9, 3.0, 2.0, 1.0, 3.0):
        pace.took(pace.size, seconds)
        assert pace.size == 500
    pace.took(40, 9.0)  # nor where it was not full
    assert pace.size == 500
    pace.took(500, 0.05)  # the process has time again, so what is slow is the database
    pace.took(500, 2.0)
    assert pace.size == 250


def test_a_small_limit_is_not_made_smaller():
    few = AdaptiveBatchSize(3)
    few.took(3, 1.0)
    assert few.size == 3
