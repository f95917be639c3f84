"""The service's settings as typed objects, read from the environment.

``docs/settings.md`` lists every variable with its default. Secrets are masked when printed.
"""

from __future__ import annotations

from compose.settings import ProcessSettings, Settings, SettingsError, load
from ingress.settings import IngressSettings
from otel.settings import OtelSettings
from otel.tracing.settings import TracingSettings
from persistence.payloads.settings import PayloadSettings
from persistence.settings import PersistenceSettings
from transport.settings import TransportSettings

__all__ = [
    "IngressSettings",
    "OtelSettings",
    "PayloadSettings",
    "PersistenceSettings",
    "ProcessSettings",
    "Settings",
    "SettingsError",
    "TracingSettings",
    "TransportSettings",
    "load",
]
