"""OpenTelemetry's standard variables, those that have a meaning here.

They are read here so that ``.env`` counts for them too, ``crossfade settings`` shows them and a
mistake stops the start; the SDK then reads them itself. Those not listed (span limits, for example)
reach it as well.
"""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from transport.environment_settings import EnvironmentSettings

__all__ = ["PROTOCOLS", "SAMPLERS", "TracingSettings"]

PROTOCOLS = ("http/protobuf", "grpc")
SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)

COMPRESSIONS = {"http/protobuf": ("none", "gzip", "deflate"), "grpc": ("none", "gzip")}
# As the SDK reads a header; it logs any other one, with the credentials in it, and sends none.
_HEADER = re.compile(
    r"[^\s\"(),/:;<=>?@\[\\\]{}]+[ \t]*=[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
)

Seconds = Annotated[float, Field(gt=0, le=600)]
Count = Annotated[int, Field(ge=1)]


class TracingSettings(EnvironmentSettings):
    """Traces, by OpenTelemetry's own variables: off unless an exporter or an endpoint is set."""

    otel_sdk_disabled: bool = False
    """Switches tracing off, whatever else is set."""
    otel_service_name: str | None = None
    """``crossfade`` where neither this nor ``OTEL_RESOURCE_ATTRIBUTES`` names the service."""
    otel_resource_attributes: str | None = None
    """``key=value``, comma-separated; they go with every span."""
    otel_traces_exporter: str | None = None
    """``otlp``, ``console`` or ``none``, or several, comma-separated. Where unset: ``otlp`` if an
    endpoint is set, else ``none``."""
    otel_exporter_otlp_endpoint: str | None = None
    """The collector's base address: ``http://host:4318`` for HTTP, ``http://host:4317`` for
    gRPC."""
    otel_exporter_otlp_traces_endpoint: str | None = None
    """The address for traces alone; for HTTP with its path, ``/v1/traces``."""
    otel_exporter_otlp_protocol: str = PROTOCOLS[0]
    """``http/protobuf`` or ``grpc``."""
    otel_exporter_otlp_traces_protocol: str | None = None
    """The same for traces alone; it overrides OTEL_EXPORTER_OTLP_PROTOCOL."""
    otel_exporter_otlp_headers: SecretStr | None = None
    """``name=value``, comma-separated, sent with each export: credentials, for example."""
    otel_exporter_otlp_traces_headers: SecretStr | None = None
    """The same for traces alone; it overrides OTEL_EXPORTER_OTLP_HEADERS."""
    otel_exporter_otlp_compression: str = "none"
    """``none`` or ``gzip``; for HTTP also ``deflate``."""
    otel_exporter_otlp_traces_compression: str | None = None
    """The same for traces alone; it overrides OTEL_EXPORTER_OTLP_COMPRESSION."""
    otel_exporter_otlp_certificate: str | None = None
    """File of the authorities that a collector's certificate is checked against; by default, those
    that the exporter's library brings."""
    otel_exporter_otlp_traces_certificate: str | None = None
    """The same for traces alone; it overrides OTEL_EXPORTER_OTLP_CERTIFICATE."""
    otel_exporter_otlp_client_certificate: str | None = None
    """File of the certificate that is shown to a collector that asks for one. With gRPC,
    ``OTEL_EXPORTER_OTLP_CERTIFICATE`` must be set too."""
    otel_exporter_otlp_traces_client_certificate: str | None = None
    """The same for traces alone; it overrides OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE."""
    otel_exporter_otlp_client_key: str | None = None
    """File of its key."""
    otel_exporter_otlp_traces_client_key: str | None = None
    """The same for traces alone; it overrides OTEL_EXPORTER_OTLP_CLIENT_KEY."""
    otel_exporter_otlp_timeout: Seconds = 10.0
    """Seconds (the Python SDK's unit) after which an export is given up."""
    otel_exporter_otlp_traces_timeout: Seconds | None = None
    """The same for traces alone; it overrides OTEL_EXPORTER_OTLP_TIMEOUT."""
    otel_traces_sampler: str = "parentbased_always_on"
    """``always_on``, ``always_off``, ``traceidratio``, one of these with ``parentbased_`` before
    it, or the name of a sampler that another package registers."""
    otel_traces_sampler_arg: str | None = None
    """For ``traceidratio``: the share of traces to record, from 0 to 1."""
    otel_propagators: str = "tracecontext,baggage"
    """The context that is read from a request: ``tracecontext``, ``none``, or others whose packages
    are installed. Baggage is never passed on; in the log it is always the W3C context."""
    otel_bsp_schedule_delay: Count = 5000
    """Milliseconds between two exports."""
    otel_bsp_max_queue_size: Count = 2048
    """Spans that may wait; those that find no room are dropped, and counted."""
    otel_bsp_max_export_batch_size: Count = 512
    """The most spans of one export; not more than OTEL_BSP_MAX_QUEUE_SIZE."""
    otel_bsp_export_timeout: Count = 30_000
    """Milliseconds; the Python SDK reads it, but limits nothing by it. A process that ends waits at
    most 5 seconds."""

    @property
    def exporters(self) -> list[str]:
        """The names of the exporters; empty if tracing is off."""
        if self.otel_sdk_disabled:
            return []
        named = self.otel_traces_exporter
        if named is None:
            endpoint = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
            return ["otlp"] if endpoint else []
        names = [name.strip().lower() for name in named.split(",")]
        return [] if "none" in names else list(dict.fromkeys(filter(None, names)))

    @property
    def protocol(self) -> str:
        """The protocol of the exporter ``otlp``."""
        return self.otel_exporter_otlp_traces_protocol or self.otel_exporter_otlp_protocol

    @property
    def compression(self) -> str:
        """The compression of the exporter ``otlp``."""
        return self.otel_exporter_otlp_traces_compression or self.otel_exporter_otlp_compression

    def tls_file(self, part: str) -> tuple[str, str] | None:
        """Return the variable that names a file of the exporter ``otlp``, and the file.

        ``part`` is ``certificate``, ``client_certificate`` or ``client_key``.
        """
        for name in (f"otel_exporter_otlp_traces_{part}", f"otel_exporter_otlp_{part}"):
            if file := getattr(self, name):
                return name.upper(), file
        return None

    @property
    def propagators(self) -> list[str]:
        """The names of the propagators, without those that do nothing here."""
        names = [name.strip().lower() for name in self.otel_propagators.split(",")]
        return [] if "none" in names else [n for n in names if n and n != "baggage"]

    @field_validator("otel_exporter_otlp_protocol", "otel_exporter_otlp_traces_protocol")
    @classmethod
    def _protocol_is_spoken(cls, value: str | None) -> str | None:
        if value is not None and value not in PROTOCOLS:
            raise ValueError(f"give one of {', '.join(PROTOCOLS)}")
        return value

    @field_validator("otel_exporter_otlp_headers", "otel_exporter_otlp_traces_headers")
    @classmethod
    def _headers_are_pairs(cls, value: SecretStr | None) -> SecretStr | None:
        given = value.get_secret_value() if value else ""
        if not all(_HEADER.fullmatch(pair.strip()) for pair in given.split(",") if pair.strip()):
            raise ValueError(
                "give name=value, comma-separated; encode other characters as in a URL"
            )
        return value

    @field_validator("otel_exporter_otlp_compression", "otel_exporter_otlp_traces_compression")
    @classmethod
    def _any_case(cls, value: str | None) -> str | None:
        return value and value.lower()

    @field_validator("otel_traces_sampler")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower() if value.lower() in SAMPLERS else value

    @model_validator(mode="after")
    def _endpoint_is_a_url(self) -> Self:
        for name in ("otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint"):
            value = getattr(self, name)
            if value is None or self.protocol == "grpc":
                continue
            url = urlsplit(value)
            if url.scheme not in {"http", "https"} or not url.hostname:
                raise ValueError(
                    f"{name.upper()}={value!r} can't be used: begin it with http:// or https://, "
                    "or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
                )
        return self

    @model_validator(mode="after")
    def _compression_is_known(self) -> Self:
        known = COMPRESSIONS[self.protocol]
        for name in ("otel_exporter_otlp_compression", "otel_exporter_otlp_traces_compression"):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(
                    f"{name.upper()}={value!r} can't be used: give one of {', '.join(known)}"
                )
        return self

    @model_validator(mode="after")
    def _ratio_is_one(self) -> Self:
        if self.otel_traces_sampler.endswith("traceidratio") and self.otel_traces_sampler_arg:
            try:
                fine = 0 <= float(self.otel_traces_sampler_arg) <= 1
            except ValueError:
                fine = False
            if not fine:
                raise ValueError(
                    f"OTEL_TRACES_SAMPLER_ARG={self.otel_traces_sampler_arg!r} can't be used: give "
                    "the share of traces to record, from 0 to 1"
                )
        return self

    @model_validator(mode="after")
    def _batch_fits(self) -> Self:
        batch, queue = self.otel_bsp_max_export_batch_size, self.otel_bsp_max_queue_size
        if batch > queue:
            raise ValueError(
                f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE={batch} is more than OTEL_BSP_MAX_QUEUE_SIZE="
                f"{queue}; give at most that"
            )
        return self
