"""The panel that ``crossfade up`` shows when everything runs.

Each address is on a line of its own, without a frame, so that it can be copied.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from compose.commands.up.key import PassingKey
from compose.local.stack import Stack
from compose.output import err
from compose.settings import Settings
from compose.supervisor.supervisor import Layout
from compose.terminal import paragraph, styled
from transport.log_name import LogName

__all__ = ["CURL", "Moved", "UpPanel", "moved_ports", "part"]

CURL = """curl -X POST {url}/api/messages \\
  -H "Content-Type: application/json" \\
  -d '{{
    "conversationId": "test_conv_001",
    "senderId": "user_001",
    "content": "Hello!",
    "contentType": "text",
    "clientMessageId": "hello_001",
    "recipientIds": ["user_002"]
  }}'"""
_CONTENT_TYPE = '  -H "Content-Type: application/json" \\\n'
_GAP = "   "
_LABEL = 9  # length of the longest label, plus one
_REDIS, _KAFKA, _POSTGRES = 6379, 9092, 5432  # the usual ports


class Moved(NamedTuple):
    """A usual or requested port that was taken, and the one used instead."""

    name: str
    usual: int
    used: int


def moved_ports(asked: Settings, settings: Settings, stack: Stack) -> list[Moved]:
    """Return each port that differs from the requested or usual one."""
    ports = [
        Moved("PORT", asked.ingress.port, settings.ingress.port),
        Moved("METRICS_PORT", asked.otel.metrics_port, settings.otel.metrics_port),
        Moved("PostgreSQL's port", _POSTGRES, stack.postgres.port),
    ]
    if stack.redis:
        ports.append(Moved("Redis's port", _REDIS, stack.redis.port))
    if stack.kafka:
        ports.append(Moved("Kafka's port", _KAFKA, stack.kafka.port))
    return [port for port in ports if port.usual != port.used]


@dataclass(frozen=True)
class UpPanel:
    """The panel: addresses, a request to try, and how to stop."""

    asked: Settings
    settings: Settings
    stack: Stack
    log_file: Path
    key: PassingKey | None = None
    layout: Layout | None = None

    def show(self, url: str, metrics_url: str) -> None:
        """Print the panel. ``metrics_url`` is that of the first process."""
        err.print()
        err.print(styled(("Crossfade is running", "bold green")))
        err.print()
        for label, value, remark in self._rows(url, metrics_url):
            shown = f" {value}" if label or value else ""
            # A remark that does not fit beside its value is printed below it.
            below = len(remark) + len(shown) + _LABEL + len(_GAP) > err.width
            beside = f"{_GAP}{remark}" if remark and not below else ""
            err.print(styled((f"{label:{_LABEL}}", "bold"), shown, (beside, "dim")))
            if remark and below:
                err.print(styled((f"{'':{_LABEL}} {remark}", "dim")))
        err.print()
        if self.key is not None:
            err.print(
                "API keys are asked for. The one below is made for this run, for any sender; "
                f"configured are {self.key.configured}."
            )
        err.print("Try it, twice: the second answer is the same, and there is still one row.")
        err.print()
        err.print(paragraph(request(url, self.key)))
        err.print()
        err.print("Ctrl-C stops everything.")
        err.print()
        sys.stderr.flush()

    def _rows(self, url: str, metrics_url: str) -> Iterator[tuple[str, str, str]]:
        settings, stack = self.settings, self.stack
        yield "API", url, "/docs, /readyz"
        yield "Console", f"{url}/console", ""
        if self.layout is None:
            yield "Metrics", metrics_url, ""
        else:
            yield "Runs as", str(self.layout), ""
            yield "Metrics", metrics_url, "of the first process; /metrics/targets lists all"
        if stack.redis:
            label, remark = part(settings, "redis")
            yield label, stack.redis.description, remark
            yield "", f"redis-cli -p {stack.redis.port} -n {settings.transport.redis_stream_db}", ""
        if stack.kafka:
            label, remark = part(settings, "kafka")
            yield label, f"kafka {stack.kafka.bootstrap}", remark
        yield "Rows", stack.postgres.binary.label, ""
        yield "", f"psql {stack.database_url}", ""
        if stack.s3:
            yield (
                "Payloads",
                f"{stack.s3.binary.label} {stack.s3.url}",
                "not flushed: to try S3 out",
            )
        yield "Data", str(stack.postgres.data_dir.parent), "kept when you stop"
        yield "Durable", "the log is on disk (fsync) before a POST is acknowledged", ""
        yield "Logs", str(self.log_file), "all of them; -v shows them here"
        yield "Commands", sys.argv[0], "status, tail, message ID, audit, migrate status, ..."
        if moved := moved_ports(self.asked, settings, stack):
            yield "Guides", _translation(moved), ""


def request(url: str, key: PassingKey | None) -> str:
    """Return the request to try, with ``key`` if there is one."""
    command = CURL.format(url=url)
    if key is None:
        return command
    header = f'  -H "Authorization: Bearer {key.secret}" \\\n'
    return command.replace(_CONTENT_TYPE, header + _CONTENT_TYPE)


def part(settings: Settings, kind: str) -> tuple[str, str]:
    """Return the role of the local log of a kind (``redis``, ``kafka``): a label and a remark."""
    transport = settings.transport
    here = {log for log in transport.logs if LogName.parse(log)[:2] == (kind, None)}
    if transport.transport_shadow is None:
        return ("Log", "") if transport.transport in here else ("Left log", "nothing new comes")
    read = ", read by workers" if transport.consumed in here else ""
    if transport.transport in here:
        return "Log", f"written first{read}"
    return "Shadow", f"{transport.transport_shadow_mode}{read}"


def _translation(moved: Sequence[Moved]) -> str:
    ports = ", ".join(f"{port.used} for {port.usual}" for port in moved)
    return f"in the commands of the documentation, write port {ports}"
