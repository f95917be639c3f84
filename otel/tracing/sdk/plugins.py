"""Find the exporter, sampler and propagators, built in or installed, that variables name."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from otel.tracing.context import SAMPLED, Parent
from otel.tracing.requests import Headers, Read
from otel.tracing.sampling import EVERY, Sampling
from otel.tracing.sdk.http_session import ExportSession
from otel.tracing.settings import SAMPLERS, TracingSettings
from transport.errors import ConfigurationError

__all__ = ["exporter", "reader", "registered", "sampling"]

_PARENT_BASED = "parentbased_"
# Each names an installed package that makes the session of the exporter over HTTP.
_SESSION_PROVIDERS = {
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
}
_EXTRA = "install it with pip install 'crossfade[tracing]'"


def exporter(name: str, settings: TracingSettings) -> SpanExporter:
    """Return the exporter called ``name``.

    Raises:
        ConfigurationError: there is none, or it can't use the certificates.
    """
    if name == "otlp":
        _check_certificates(settings)
        name = "otlp_proto_grpc" if settings.protocol == "grpc" else "otlp_proto_http"
    kind = registered("opentelemetry_traces_exporter", name)
    if kind is None:
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER: there is no exporter {name!r} here; choose otlp, console or "
            f"none, or {_EXTRA}"
        )
    if name == "console":
        return ConsoleSpanExporter(out=sys.stdout)  # stdout as it is now, not at the SDK's import
    options: dict[str, Any] = {}
    if name == "otlp_proto_http" and not _SESSION_PROVIDERS & os.environ.keys():
        options = {"session": ExportSession()}
    made: SpanExporter = kind(**options)
    return made


def _check_certificates(settings: TracingSettings) -> None:
    """Load the files of TLS: with bad ones, the exporters fail at each export, or do without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities, own = settings.tls_file("certificate"), settings.tls_file("client_certificate")
    if authorities:
        variable, file = authorities
        with _named(variable, file):
            context.load_verify_locations(file)
    if own:
        variable, file = own
        _, key = settings.tls_file("client_key") or ("", None)
        with _named(variable, file):
            # No password: the exporters can't give one.
            context.load_cert_chain(file, key, password=lambda: b"")
        if settings.protocol == "grpc" and not authorities:
            raise ConfigurationError(
                f"{variable} has no effect over gRPC unless OTEL_EXPORTER_OTLP_CERTIFICATE is set: "
                "give that, too, the file of the authorities of the collector's certificate"
            )


@contextmanager
def _named(variable: str, file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl's errors, too
        reason = error.strerror or error
        raise ConfigurationError(
            f"{variable}={file!r} can't be used ({reason}); give a readable PEM file, and the key "
            "that belongs to it"
        ) from error


def sampling(settings: TracingSettings) -> Sampling:
    """Return the decisions of the configured sampler.

    Raises:
        ConfigurationError: there is no such sampler.
    """
    name, argument = settings.otel_traces_sampler, settings.otel_traces_sampler_arg
    if name in SAMPLERS:
        bounds = {
            "always_on": EVERY,
            "always_off": 0,
            "traceidratio": TraceIdRatioBased(float(argument or 1.0)).bound,
        }
        return Sampling(bounds[name.removeprefix(_PARENT_BASED)], name.startswith(_PARENT_BASED))
    factory = registered("opentelemetry_traces_sampler", name)
    if factory is None:
        raise ConfigurationError(
            f"OTEL_TRACES_SAMPLER={name!r} is not a sampler; choose one of {', '.join(SAMPLERS)}, "
            "or install the package that registers it"
        )
    return Sampling(0, parent_based=False, ask=partial(_ask, factory(argument)))


def _ask(sampler: Sampler, trace_id: int, parent: Parent | None) -> bool:
    context = None
    if parent is not None:
        flags = TraceFlags(parent.flags & SAMPLED)
        remote = SpanContext(trace_id, parent.span_id, is_remote=True, trace_flags=flags)
        context = set_span_in_context(NonRecordingSpan(remote))
    result = sampler.should_sample(context, trace_id, "POST /api/messages", SpanKind.SERVER, {})
    return result.decision is Decision.RECORD_AND_SAMPLE


def reader(settings: TracingSettings) -> Read | None:
    """Return a reader for ``OTEL_PROPAGATORS``; ``None`` if our own W3C parser does it.

    Raises:
        ConfigurationError: there is no such propagator.
    """
    names = settings.propagators
    if names == ["tracecontext"]:
        return None
    propagators: list[TextMapPropagator] = []
    for name in names:
        kind = registered("opentelemetry_propagator", name)
        if kind is None:
            raise ConfigurationError(
                f"OTEL_PROPAGATORS: there is no propagator {name!r} here; install the package that "
                "registers it, or leave it out"
            )
        propagators.append(kind())
    return partial(_read, propagators)


def _read(propagators: Sequence[TextMapPropagator], headers: Headers) -> Parent | None:
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
    for propagator in propagators:
        found = get_current_span(propagator.extract(carrier, Context())).get_span_context()
        if found.is_valid:
            state = found.trace_state.to_header() or None
            return Parent(found.trace_id, found.span_id, int(found.trace_flags), state)
    return None


def registered(group: str, name: str) -> Any:
    """Return the object of an installed package's entry point ``name``; ``None`` if none has it."""
    found = entry_points(group=group, name=name)
    return next(iter(found)).load() if found else None
