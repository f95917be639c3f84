"""What ``crossfade up`` says when everything runs."""

from __future__ import annotations

import sys

from rich.panel import Panel
from rich.table import Table

from compose.console import err
from compose.local.stack import Stack
from compose.serve import Running
from compose.settings import Settings

__all__ = ["part", "show"]

_CURL = """curl -X POST {url}/api/messages \\
  -H "Content-Type: application/json" \\
  -d '{{
    "conversationId": "test_conv_001",
    "senderId": "user_001",
    "content": "Hello, Phase 3!",
    "contentType": "text",
    "clientMessageId": "client_msg_001",
    "recipientIds": ["user_002"]
  }}'"""


def show(settings: Settings, stack: Stack, running: Running) -> None:
    """Print the addresses, a request to try, and how to stop."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold")
    rows.add_column(overflow="fold")
    rows.add_row("API", f"{running.url}   (/console, /docs, /readyz)")
    rows.add_row("Metrics", running.metrics_url)
    if stack.redis:
        redis = stack.redis
        rows.add_row(
            part(settings, "redis"),
            f"{redis.binary.label}\nredis-cli -p {redis.port} -n "
            f"{settings.transport.redis_stream_db}",
        )
    if stack.kafka:
        rows.add_row(part(settings, "kafka"), f"kafka   {stack.kafka.bootstrap}")
    rows.add_row("Rows", f"{stack.postgres.binary.label}\npsql {stack.database_url}")
    rows.add_row("Data", f"{stack.postgres.data_dir.parent}   (kept when you stop)")
    rows.add_row("Durable", "the log is on disk (fsync) before a POST is acknowledged")
    rows.add_row("Commands", f"{sys.argv[0]} status, tail, message ID, audit, migrate status, ...")
    err.print(Panel(rows, title="Crossfade is running", border_style="green", expand=False))
    # Outside the panel, whose frame would be copied along.
    err.print("Try it, twice: the second answer is the same, and there is still one row.\n")
    err.print(_CURL.format(url=running.url), markup=False)
    err.print("\nCtrl-C stops everything.\n")
    sys.stderr.flush()


def part(settings: Settings, name: str) -> str:
    """Return what a log is to this process."""
    transport = settings.transport
    if name == transport.transport:
        part = "Log"
    elif name == transport.transport_shadow:
        part = f"Shadow ({transport.transport_shadow_mode})"
    else:
        return "Left (nothing new comes here)"
    if transport.transport_shadow is not None and name == transport.consumed:
        part += ", read by workers"
    return part
