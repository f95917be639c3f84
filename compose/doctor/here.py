"""This machine's side: the settings, and the limits of a process."""

from __future__ import annotations

import ipaddress
import resource
from collections.abc import Iterator
from importlib.metadata import version

from compose.doctor.finding import Finding, fine, warning
from compose.settings import Settings, misspelt
from transport.log_name import LogName
from transport.settings import TransportSettings

__all__ = ["examine_here"]

_FILES = 4096
_LOCAL = ("localhost", "127.0.0.1", "::1")


def examine_here(settings: Settings) -> Iterator[Finding]:
    """Yield what was found of the settings, and of this process's limits."""
    yield fine("version", f"crossfade {version('crossfade')}")
    for line in misspelt():
        yield warning("settings", line, "correct its name")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < _FILES:
        yield warning(
            "open files",
            f"{hard:,} at most: connections are reset when they are used up",
            f"raise the limit to {_FILES:,} or more (ulimit -Hn, LimitNOFILE)",
        )
    else:
        yield fine("open files", f"{hard:,} at most")
    if not settings.ingress.api_keys and not settings.ingress.api_keys_file:
        yield warning(
            "API keys",
            "none: whoever reaches the port may post and read",
            "make one with 'crossfade keys new'",
        )
    for name in dict.fromkeys(
        (
            settings.transport.transport,
            settings.transport.consumed,
            settings.transport.transport_shadow,
        )
    ):
        if name:
            yield from _unencrypted(name, settings.transport.of(LogName.parse(name)))


def _unencrypted(name: str, log: TransportSettings) -> Iterator[Finding]:
    kind = LogName.parse(name).kind
    if kind == "redis" and not log.redis_tls and not _is_near(log.redis_host):
        yield warning(
            f"{name} encryption", f"none on the way to {log.redis_host}", "set REDIS_TLS=true"
        )
    if kind == "kafka" and "SSL" not in log.kafka_security_protocol:
        far = [
            server
            for server in log.kafka_bootstrap_servers.split(",")
            if not _is_near(server.rpartition(":")[0].strip())
        ]
        if far:
            yield warning(
                f"{name} encryption",
                f"none on the way to {', '.join(far)}",
                "set KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL (docs/managed_kafka.md)",
            )


def _is_near(host: str) -> bool:
    """Return whether ``host`` is this machine or a private network, whose owner is trusted."""
    if host in _LOCAL or "." not in host:  # a name without dots is one of the same network
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_private
