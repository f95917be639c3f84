"""Our shortcut decides as the SDK's own samplers do."""

from __future__ import annotations

import random

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel.tracing import sdk
from otel.tracing.context import Parent
from otel.tracing.sdk import plugins
from otel.tracing.settings import SAMPLERS, TracingSettings
from transport.errors import ConfigurationError

ids = random.Random(1)


def theirs(sampler, trace_id: int, parent: Parent | None) -> bool:
    context = Context()
    if parent:
        remote = SpanContext(trace_id, parent.span_id, True, TraceFlags(parent.flags))
        context = set_span_in_context(NonRecordingSpan(remote))
    result = sampler.should_sample(context, trace_id, "POST /api/messages")
    return result.decision is Decision.RECORD_AND_SAMPLE


@pytest.mark.parametrize("argument", [None, "0", "0.25", "1"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_standard_sampler_decides_as_the_sdks(monkeypatch, name, argument):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    if argument is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    sampler = TracerProvider(shutdown_on_exit=False).sampler
    ours = sdk.sampling(TracingSettings())
    sampled = 0
    for _ in range(300):
        trace_id = ids.getrandbits(128) or 1
        assert ours.root(trace_id) is theirs(sampler, trace_id, None)
        sampled += ours.root(trace_id)
        for flags in (0, 1, 2, 3):
            parent = Parent(trace_id, 7, flags)
            assert ours.child(parent) is theirs(sampler, trace_id, parent)
    if "ratio" in name and argument == "0.25":
        assert 30 < sampled < 130


class EveryOther:
    """Another package's sampler, registered as ``every_other``."""

    def __init__(self, argument: str | None) -> None:
        self.argument = argument

    def should_sample(self, context, trace_id, *_, **__):
        from opentelemetry.sdk.trace.sampling import SamplingResult  # noqa: PLC0415

        drop = trace_id % 2
        return SamplingResult(Decision.DROP if drop else Decision.RECORD_AND_SAMPLE)


def test_a_sampler_that_another_package_registers_is_asked(monkeypatch):
    monkeypatch.setattr(plugins, "registered", lambda group, name: EveryOther)
    ours = sdk.sampling(TracingSettings(otel_traces_sampler="every_other"))
    assert [ours.root(n) for n in (1, 2, 3, 4)] == [False, True, False, True]
    assert ours.child(Parent(2, 1, 0)) is True


def test_a_sampler_that_is_not_there_is_named():
    with pytest.raises(ConfigurationError, match=r"OTEL_TRACES_SAMPLER='jaeger_remote'.*always_on"):
        sdk.sampling(TracingSettings(otel_traces_sampler="jaeger_remote"))
