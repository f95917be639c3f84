"""What travels: read as OpenTelemetry's own propagator reads it, flags by their bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel.tracing.context import (
    checked,
    derived_trace_id,
    is_sampled,
    parse,
    sampled_trace_id,
    state,
    traceparent_of,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        "garbage",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-0",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-xx",
        f" 00-{TRACE}-{SPAN}-01",
    ],
)
def test_a_broken_context_is_none(value):
    assert checked(value.encode()) is None


def test_bytes_that_are_no_text_are_none():
    assert checked(b"\xff" * 55) is None
    assert checked(None) is None


def test_a_later_version_may_say_more():
    assert checked(f"01-{TRACE}-{SPAN}-01-more".encode()) is not None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_context_is_what_the_sdk_reads_in_it(trace_id, span_id, flags):
    text = traceparent_of(trace_id, span_id, flags)
    assert checked(text.encode()) == text
    parent = parse(text)
    context = TraceContextTextMapPropagator().extract({"traceparent": text}, Context())
    theirs = get_current_span(context).get_span_context()
    assert (parent.trace_id, parent.span_id) == (theirs.trace_id, theirs.span_id)
    assert parent.sampled is is_sampled(text) is theirs.trace_flags.sampled


@pytest.mark.parametrize("flags", range(0, 256, 7))
def test_of_the_flags_only_the_first_bit_says_sampled(flags):
    text = f"00-{TRACE}-{SPAN}-{flags:02x}"
    assert is_sampled(text) is bool(flags & 1)
    assert sampled_trace_id(text) == (TRACE if flags & 1 else None)


def test_the_state_is_kept_as_it_is_and_dropped_if_it_is_none():
    assert (
        state(b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
        == "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    )
    for broken in (None, b"", b"no pair", b"a=\xff", b"a=b\r\nx: y", b"a=" + b"x" * 600):
        assert state(broken) is None


def test_a_body_has_one_trace_id_wherever_it_goes():
    assert derived_trace_id(b"one") == derived_trace_id(b"one") != derived_trace_id(b"two")
    assert 0 < derived_trace_id(b"") < 2**128
